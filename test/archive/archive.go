// Package archive reads the Debian archive with apt: which versions it serves,
// their packages, and the libraries that those need. All of it goes into a
// folder of its own; the machine's apt and its packages are not touched.
package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Archive is the Debian archive of one release.
type Archive struct {
	dir     string // the cache
	mirror  string
	options []string
}

// DefaultCache is the folder for packages: $HOTPATCH_CACHE, or hotpatch in the
// user's cache folder.
func DefaultCache() (string, error) {
	if dir := os.Getenv("HOTPATCH_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "hotpatch"), nil
}

// Open prepares the cache in dir and reads the archive's index unless it was
// read within the last hour.
func Open(ctx context.Context, dir, mirror, release string) (*Archive, error) {
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb", "dpkg", "dpkg-query"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%s is missing: this needs a Debian system with apt and dpkg", program)
		}
	}
	return open(ctx, dir, "deb", mirror, release)
}

// open prepares a cache of binary packages (deb) or source packages (deb-src).
func open(ctx context.Context, dir, kind, mirror, release string) (*Archive, error) {
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("the archive's keys are missing: apt install debian-archive-keyring (%w)", err)
	}
	a := &Archive{dir: dir, mirror: mirror}
	lists, debs := filepath.Join(dir, "apt", "lists"), filepath.Join(dir, "debs")
	for _, d := range []string{filepath.Join(lists, "partial"), filepath.Join(dir, "apt", "cache", "archives", "partial"), debs} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make the cache: %w", err)
		}
	}
	sources := filepath.Join(dir, "apt", "sources.list")
	text := fmt.Sprintf("%[1]s [signed-by=%[2]s] %[3]s %[4]s main\n%[1]s [signed-by=%[2]s] %[3]s-security %[4]s-security main\n", kind, keyring, mirror, release)
	if err := os.WriteFile(sources, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("write the list of sources: %w", err)
	}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + sources, "Dir::Etc::sourceparts=/dev/null", "Dir::State::lists=" + lists,
		"Dir::Cache=" + filepath.Join(dir, "apt", "cache"), "Dir::Cache::pkgcache=pkgcache.bin", "Dir::Cache::srcpkgcache=srcpkgcache.bin",
		"APT::Architecture=amd64", "APT::Sandbox::User=root",
	} {
		a.options = append(a.options, "-o", o)
	}
	stamp := filepath.Join(dir, "apt", "updated")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < time.Hour {
		return a, nil
	}
	if _, err := a.apt(ctx, "", "apt-get", "update"); err != nil {
		return nil, fmt.Errorf("read the archive's index: %w", err)
	}
	return a, os.WriteFile(stamp, nil, 0o644)
}

func (a *Archive) apt(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, slices.Concat(a.options, args)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, lastLine(out))
	}
	return string(out), nil
}

// NewestTwo returns the two newest versions that the archive serves: the
// baseline and the fixed build.
func (a *Archive) NewestTwo(ctx context.Context, pkg string) (baseline, fixed string, err error) {
	out, err := a.apt(ctx, "", "apt-cache", "madison", pkg)
	if err != nil {
		return "", "", err
	}
	var versions []string
	for line := range strings.Lines(out) {
		if f := strings.Split(line, "|"); len(f) == 3 && !slices.Contains(versions, strings.TrimSpace(f[1])) {
			versions = append(versions, strings.TrimSpace(f[1]))
		}
	}
	if len(versions) < 2 {
		return "", "", fmt.Errorf("the archive serves %d version of %s, two are needed", len(versions), pkg)
	}
	slices.SortFunc(versions, func(x, y string) int {
		if exec.CommandContext(ctx, "dpkg", "--compare-versions", x, "lt", y).Run() == nil {
			return -1
		}
		return 1
	})
	return versions[len(versions)-2], versions[len(versions)-1], nil
}

// Fetch downloads a package, the candidate's version when version is empty,
// unless it is here already, and returns its file.
func (a *Archive) Fetch(ctx context.Context, pkg, version string) (string, error) {
	if version == "" {
		out, err := a.apt(ctx, "", "apt-cache", "policy", pkg)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(out) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok && v != "(none)" {
				version = v
			}
		}
		if version == "" {
			return "", fmt.Errorf("the archive has no package %s", pkg)
		}
	}
	debs := filepath.Join(a.dir, "debs")
	// apt writes a colon as %3a and leaves the rest.
	pattern := filepath.Join(debs, pkg+"_"+strings.ReplaceAll(version, ":", "%3a")+"_*.deb")
	for range 2 {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for %s: %w", pkg, err)
		}
		if len(found) > 0 {
			return found[0], nil
		}
		if _, err := a.apt(ctx, debs, "apt-get", "download", pkg+"="+version); err != nil {
			return "", fmt.Errorf("fetch %s %s: %w", pkg, version, err)
		}
	}
	return "", fmt.Errorf("fetch %s %s: apt left no %s", pkg, version, pattern)
}

// Pinned downloads a build that the archive's index does not list any more, but
// whose file is still there, unless it is here already. What it must hold says
// its SHA-256 digest, in hex.
func (a *Archive) Pinned(ctx context.Context, source, pkg, version, digest string) (string, error) {
	name := pkg + "_" + version + "_amd64.deb"
	path := filepath.Join(a.dir, "debs", name)
	var failed error
	for _, pool := range []string{"", a.mirror + "/pool/main", a.mirror + "-security/pool/updates/main"} {
		if pool != "" {
			if err := download(ctx, pool+"/"+source[:1]+"/"+source+"/"+name, path); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("fetch %s: %w", name, err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) == digest {
			return path, nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s: its SHA-256 is not %s", name, digest))
	}
	return "", fmt.Errorf("fetch %s: %w", name, failed)
}

func download(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, io.LimitReader(resp.Body, 1<<30))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	return os.Rename(f.Name(), path)
}

// Libraries unpacks the libraries that a package needs and the machine lacks,
// and what those need, into dir.
func (a *Archive) Libraries(ctx context.Context, deb, dir string) error {
	seen := map[string]bool{}
	queue := []string{deb}
	for len(queue) > 0 {
		deb, queue = queue[0], queue[1:]
		out, err := exec.CommandContext(ctx, "dpkg-deb", "-f", deb, "Depends").Output()
		if err != nil {
			return fmt.Errorf("read the dependencies of %s: %w", deb, err)
		}
		for _, pkg := range librariesOf(Lacking(ctx, string(out))) {
			if seen[pkg] {
				continue
			}
			seen[pkg] = true
			file, err := a.Fetch(ctx, pkg, "")
			if err != nil {
				return err
			}
			if err := Unpack(ctx, file, dir); err != nil {
				return err
			}
			queue = append(queue, file)
		}
	}
	return nil
}

// Lacking lists the packages in a Depends field that are not installed; of
// alternatives none of which is installed the first.
func Lacking(ctx context.Context, depends string) []string {
	var out []string
	for clause := range strings.SplitSeq(depends, ",") {
		var first string
		installed := false
		for alternative := range strings.SplitSeq(clause, "|") {
			name, _, _ := strings.Cut(strings.TrimSpace(alternative), " ")
			name, _, _ = strings.Cut(name, ":")
			if first == "" {
				first = name
			}
			state, _ := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
			installed = installed || string(state) == "installed"
		}
		if !installed && first != "" {
			out = append(out, first)
		}
	}
	return out
}

func librariesOf(packages []string) []string {
	return slices.DeleteFunc(packages, func(p string) bool { return !strings.HasPrefix(p, "lib") && p != "zlib1g" })
}

// Unpack extracts the files of a package below dir.
func Unpack(ctx context.Context, deb, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, lastLine(out))
	}
	return nil
}

// Upgrade does with the files of the tree fixed what dpkg does with those of a
// new package version: each is written beside the one in root and renamed over
// it; then the files that only the old version had are removed.
func Upgrade(root, fixed string) error {
	err := filepath.WalkDir(fixed, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(fixed, path)
		if err != nil {
			return err
		}
		at := filepath.Join(root, rel)
		if d.IsDir() {
			return os.MkdirAll(at, 0o755)
		}
		beside := at + ".dpkg-new"
		if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			if err := os.Symlink(to, beside); err != nil {
				return err
			}
			return os.Rename(beside, at)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(beside, bytes, info.Mode().Perm()); err != nil {
			return err
		}
		return os.Rename(beside, at)
	})
	if err != nil {
		return fmt.Errorf("upgrade %s: %w", root, err)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(fixed, rel)); errors.Is(err, fs.ErrNotExist) {
			return os.Remove(path)
		}
		return nil
	})
}

// LibraryDirs lists the folders below the roots that hold shared libraries, in
// order, for LD_LIBRARY_PATH.
func LibraryDirs(roots ...string) []string {
	var out []string
	for _, root := range roots {
		for _, rel := range []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib"} {
			dir := filepath.Join(root, rel)
			if found, _ := filepath.Glob(filepath.Join(dir, "*.so*")); len(found) > 0 {
				out = append(out, dir)
			}
		}
	}
	return out
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
