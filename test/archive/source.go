package archive

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// OpenSources prepares the archive's source packages of one release, in the
// cache in dir.
func OpenSources(ctx context.Context, dir, mirror, release string) (*Archive, error) {
	if _, err := exec.LookPath("dpkg-source"); err != nil {
		return nil, fmt.Errorf("dpkg-source is missing: apt install dpkg-dev (%w)", err)
	}
	return open(ctx, filepath.Join(dir, "sources"), "deb-src", mirror, release)
}

// FetchSource downloads the newest version of a source package of which the
// archive serves several, or the one before it, and unpacks it into dir. It
// returns the version.
func (a *Archive) FetchSource(ctx context.Context, source string, newest bool, dir string) (string, error) {
	out, err := a.apt(ctx, "", "apt-cache", "madison", source)
	if err != nil {
		return "", err
	}
	var versions []string
	for line := range strings.Lines(out) {
		f := strings.Split(line, "|")
		if len(f) == 3 && strings.TrimSpace(f[0]) == source && !slices.Contains(versions, strings.TrimSpace(f[1])) {
			versions = append(versions, strings.TrimSpace(f[1]))
		}
	}
	slices.SortFunc(versions, func(x, y string) int { return CompareVersions(ctx, x, y) })
	at := len(versions) - 1
	if !newest {
		at--
	}
	if at < 0 {
		return "", fmt.Errorf("the archive serves %d versions of the source %s", len(versions), source)
	}
	version := versions[at]
	files := filepath.Join(a.dir, "debs")
	name := version
	if _, rest, ok := strings.Cut(name, ":"); ok {
		name = rest
	}
	dsc := filepath.Join(files, source+"_"+name+".dsc")
	// What is here already and whole is not fetched again.
	if _, err := a.apt(ctx, files, "apt-get", "source", "--download-only", source+"="+version); err != nil {
		return "", fmt.Errorf("fetch the source %s %s: %w", source, version, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(dsc), err)
	}
	if out, err := exec.CommandContext(ctx, "dpkg-source", "--no-check", "-x", dsc, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s", filepath.Base(dsc), err, lastLine(out))
	}
	return version, age(dir)
}

// age gives the files that tools make from others one time, later than that of
// what they are made from: patches may have touched either, and the tools that
// would be asked to make them anew may be missing.
func age(dir string) error {
	now := time.Now()
	for i, name := range []string{"aclocal.m4", "configure", "Makefile.in", "config.h.in", "stamp-h.in"} {
		out, err := exec.Command("find", dir, "-name", name).Output()
		if err != nil {
			return fmt.Errorf("look for %s: %w", name, err)
		}
		for file := range strings.Lines(string(out)) {
			when := now.Add(time.Duration(i) * time.Second)
			if err := os.Chtimes(strings.TrimSpace(file), when, when); err != nil {
				return err
			}
		}
	}
	return nil
}
