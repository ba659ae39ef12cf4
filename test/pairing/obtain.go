package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hotpatch/test/archive"
)

// obtain unpacks a source in two versions, the two newest that the archive
// serves. When it serves only one whole, the older is that one without the
// last of Debian's patches that changes code. It says what differs.
func obtain(ctx context.Context, a *archive.Archive, source string, roots [2]string) (string, error) {
	for _, root := range roots {
		if err := os.RemoveAll(root); err != nil {
			return "", err
		}
	}
	newer, errNew := a.FetchSource(ctx, source, true, roots[1])
	older, errOld := a.FetchSource(ctx, source, false, roots[0])
	switch {
	case errNew == nil && errOld == nil:
		return older + " → " + newer, nil
	case errNew != nil && errOld != nil:
		return "", errors.Join(errNew, errOld)
	}
	from, to, version := roots[1], roots[0], newer
	if errNew != nil {
		from, to, version = roots[0], roots[1], older
	}
	if err := os.RemoveAll(to); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy the source: %w: %s", err, out)
	}
	name, err := takeOut(ctx, roots[0])
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", source, version, err)
	}
	return version + " without and with " + name, nil
}

var touchesCode = regexp.MustCompile(`(?m)^\+\+\+ \S+\.(c|h|cc|cpp|hpp|cxx)\b`)

// takeOut takes the last patch that changes code, and can be taken out alone,
// out of an unpacked source.
func takeOut(ctx context.Context, root string) (string, error) {
	series, err := os.ReadFile(filepath.Join(root, "debian/patches/series"))
	if err != nil {
		return "", fmt.Errorf("read the list of patches: %w", err)
	}
	lines := strings.Split(string(series), "\n")
	for _, line := range slices.Backward(lines) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || name[0] == '#' {
			continue
		}
		file := filepath.Join(root, "debian/patches", name)
		text, err := os.ReadFile(file)
		if err != nil || !touchesCode.Match(text) {
			continue
		}
		args := []string{"-d", root, "-R", "-p1", "-F0", "-s", "-f", "-i", file}
		if exec.CommandContext(ctx, "patch", append(args, "--dry-run")...).Run() != nil {
			continue
		}
		if out, err := exec.CommandContext(ctx, "patch", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("take out %s: %w: %s", name, err, out)
		}
		return strings.TrimSuffix(name, ".patch"), nil
	}
	return "", errors.New("none of its patches can be taken out")
}
