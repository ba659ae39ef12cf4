package host_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/host"
)

func owners(t *testing.T, root string, paths ...string) map[string]host.Package {
	t.Helper()
	db, err := host.OpenPackages(root)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	got, err := db.Owners(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestOwnersAgainstDpkg compares with dpkg over what lies in the system's
// directories of programs and libraries.
func TestOwnersAgainstDpkg(t *testing.T) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		t.Skip("dpkg-query is not installed")
	}
	var paths []string
	for _, glob := range []string{"/usr/bin/*", "/usr/sbin/*", "/usr/lib/x86_64-linux-gnu/*.so.*"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() {
				paths = append(paths, path)
			}
		}
	}
	paths = append(paths, "/usr/bin/no such program", "/etc/hostname")
	got := owners(t, "/", paths...)
	if len(got) < 100 {
		t.Errorf("only %d owners found", len(got))
	}
	if got["/usr/bin/bash"].Name != "bash" {
		t.Errorf("bash belongs to %+v", got["/usr/bin/bash"])
	}

	// dpkg-query knows a file by the name in the package only: both are asked for.
	want := make(map[string]string)
	for i := 0; i < len(paths); i += 100 {
		args := []string{"--search"}
		for _, path := range paths[i:min(i+100, len(paths))] {
			args = append(args, path, strings.TrimPrefix(path, "/usr"))
		}
		cmd := exec.Command("dpkg-query", args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, _ := cmd.Output() // it fails when any file has no owner
		for line := range strings.Lines(string(out)) {
			pkg, path, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok || strings.HasPrefix(line, "diversion ") {
				continue
			}
			if !strings.HasPrefix(path, "/usr") {
				path = "/usr" + path
			}
			want[path] = pkg
		}
	}
	// It does not resolve diversions, which TestDiverted is for.
	diverted, err := exec.Command("dpkg-divert", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	out, err := exec.Command("dpkg-query", "-W", "-f", "${binary:Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		versions[name] = rest
	}
	for _, path := range paths {
		if strings.Contains(string(diverted), path) {
			continue
		}
		is, should := "", versions[want[path]]
		if p, ok := got[path]; ok {
			is = fmt.Sprintf("%s %s %s %s", p.Version, p.Arch, p.Source, p.SourceVersion)
			if name, _, _ := strings.Cut(want[path], ":"); name != p.Name {
				t.Errorf("%s: %s, dpkg says %s", path, p.Name, want[path])
			}
		}
		if is != should {
			t.Errorf("%s: %q, dpkg says %q (%s)", path, is, should, want[path])
		}
	}
}

// system is a root directory with a dpkg of its own.
type system struct {
	t    *testing.T
	root string
}

func newSystem(t *testing.T) system {
	t.Helper()
	privileged(t)
	for _, tool := range []string{"dpkg", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: apt install dpkg-dev zstd xz-utils binutils gcc", tool)
		}
	}
	s := system{t, tempDir(t)}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log", "usr/lib"} {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	symlink(t, "usr/lib", s.root+"/lib")
	if err := os.WriteFile(s.root+"/var/lib/dpkg/status", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// pack makes a package that holds the program, and in a directory that is
// merged another file.
func (s system) pack(version int) string {
	s.t.Helper()
	dir := tempDir(s.t)
	buildStatic(s.t, dir+"/usr/bin/victim", version)
	if err := os.MkdirAll(dir+"/lib/victim", 0o755); err != nil {
		s.t.Fatal(err)
	}
	copyFile(s.t, dir+"/usr/bin/victim", dir+"/lib/victim/helper")
	if err := os.Mkdir(dir+"/DEBIAN", 0o755); err != nil {
		s.t.Fatal(err)
	}
	control := fmt.Sprintf("Package: victim\nVersion: 1:%d.0-1\nSource: victims (%d.0)\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\nDescription: a program\n", version, version)
	if err := os.WriteFile(dir+"/DEBIAN/control", []byte(control), 0o644); err != nil {
		s.t.Fatal(err)
	}
	out := filepath.Join(tempDir(s.t), "victim.deb")
	run(s.t, "dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, out)
	return out
}

func (s system) dpkg(args ...string) {
	s.t.Helper()
	run(s.t, append([]string{"dpkg", "--root=" + s.root, "--log=" + s.root + "/var/log/dpkg.log", "--force-depends", "--force-architecture"}, args...)...)
}

// TestUpgrade upgrades a running program with dpkg, twice.
func TestUpgrade(t *testing.T) {
	s := newSystem(t)
	debs := []string{s.pack(1), s.pack(2), s.pack(3)}
	s.dpkg("-i", debs[0])
	begin := func() int {
		cmd := exec.Command("/usr/bin/victim")
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root}
		cmd.Dir, cmd.Err = "/", nil
		return start(t, cmd)
	}
	first := begin()
	pkg := func(version string) host.Package {
		return host.Package{
			Manager: "dpkg", Name: "victim", Version: "1:" + version + "-1", Arch: "amd64",
			Source: "victims", SourceVersion: version,
		}
	}
	expect := func(pid int, state host.State, running string, installed host.Package) {
		t.Helper()
		p := scan(t, pid, host.Options{Packages: true})
		m := find(t, p, "/usr/bin/victim")
		check(t, p, m, state, "/usr/bin/victim")
		if diff := cmp.Diff(installed, m.Package); diff != "" {
			t.Errorf("package (-want +got):\n%s", diff)
		}
		if m.RunningVersion != running || m.VersionReason == "" {
			t.Errorf("version %q (%s), want %q", m.RunningVersion, m.VersionReason, running)
		}
	}
	expect(first, host.Current, "1:1.0-1", pkg("1.0"))
	s.dpkg("-i", debs[1])
	expect(first, host.Outdated, "1:1.0-1", pkg("2.0"))
	second := begin()
	expect(second, host.Current, "1:2.0-1", pkg("2.0"))

	// Now twice since the first began; the log tells whole seconds.
	time.Sleep(3 * time.Second)
	s.dpkg("-i", debs[2])
	expect(first, host.Outdated, "1:1.0-1", pkg("3.0"))
	expect(second, host.Outdated, "1:2.0-1", pkg("3.0"))

	want := map[string]host.Package{"/usr/lib/victim/helper": pkg("3.0")}
	if diff := cmp.Diff(want, owners(t, s.root, "/usr/lib/victim/helper", "/usr/lib/other")); diff != "" {
		t.Errorf("owner in a merged directory (-want +got):\n%s", diff)
	}

	// Replaced by hand: the log knows nothing of it, and that is said.
	time.Sleep(3 * time.Second)
	third := begin()
	buildStatic(t, s.root+"/usr/bin/new", 4)
	rename(t, s.root+"/usr/bin/new", s.root+"/usr/bin/victim")
	p := scan(t, third, host.Options{Packages: true})
	m := find(t, p, "/usr/bin/victim")
	if m.State != host.Outdated || m.RunningVersion != "" || m.VersionReason == "" || m.Package != pkg("3.0") {
		t.Errorf("replaced by hand: %+v", m)
	}
	if got := fixed(t, p, m); got != "/usr/bin/victim" {
		t.Errorf("replaced by hand: %q is not trusted", got)
	}

	s.dpkg("--remove", "victim")
	p = scan(t, third, host.Options{Packages: true})
	if m := find(t, p, "/usr/bin/victim"); m.State != host.Gone || m.RunningVersion != "" || m.VersionReason == "" {
		t.Errorf("after removal: %+v", m)
	}
}

// TestDiverted: a diverted file belongs to the package that it came from.
func TestDiverted(t *testing.T) {
	s := newSystem(t)
	run(t, "dpkg-divert", "--root="+s.root, "--local", "--no-rename", "--divert", "/usr/bin/victim.real", "--add", "/usr/bin/victim")
	s.dpkg("-i", s.pack(1))
	got := owners(t, s.root, "/usr/bin/victim", "/usr/bin/victim.real")
	if got["/usr/bin/victim.real"].Name != "victim" || len(got) != 1 {
		t.Errorf("owners %+v", got)
	}
}

// TestHostileDatabase: what a container may put where the database is.
func TestHostileDatabase(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, root string){
		"empty":     func(*testing.T, string) {},
		"link out":  func(t *testing.T, root string) { symlink(t, "/var/lib/dpkg", root+"/var/lib/dpkg") },
		"pipe":      func(t *testing.T, root string) { makePipe(t, root+"/var/lib/dpkg/info/a.list") },
		"long line": func(t *testing.T, root string) { longLine(t, root+"/var/lib/dpkg/info/a.list") },
	} {
		t.Run(name, func(t *testing.T) {
			root := tempDir(t)
			if err := os.MkdirAll(root+"/var/lib", 0o755); err != nil {
				t.Fatal(err)
			}
			act(t, root)
			db, err := host.OpenPackages(root)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if got, err := db.Owners(t.Context(), []string{"/usr/bin/bash"}); err == nil || len(got) != 0 {
				t.Errorf("owners %+v, %v", got, err)
			}
		})
	}
}

func makePipe(t *testing.T, path string) {
	t.Helper()
	database(t, path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func longLine(t *testing.T, path string) {
	t.Helper()
	database(t, path)
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
}

func database(t *testing.T, list string) {
	t.Helper()
	dir := filepath.Dir(list)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/../status", nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzPackages reads a database of any content: a container's own.
func FuzzPackages(f *testing.F) {
	f.Add("Package: a\nStatus: install ok installed\nArchitecture: amd64\nSource: s (2)\nVersion: 1\n", "/usr\n/lib/x\n", "/usr/lib/x\n/usr/lib/y\nb\n", "2026-04-01 10:00:00 upgrade a:amd64 0 1\n2026-04-01 10:00:01 status installed a:amd64 1\n")
	root := f.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/log"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, status, list, diversions, log string) {
		for name, text := range map[string]string{
			"lib/dpkg/status": status, "lib/dpkg/info/a.list": list, "lib/dpkg/diversions": diversions, "log/dpkg.log": log,
		} {
			if err := os.WriteFile(filepath.Join(root, "var", name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		db, err := host.OpenPackages(root)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		got, _ := db.Owners(t.Context(), []string{"/usr/lib/x", "/usr/lib/y", "/etc/z"})
		for path, pkg := range got {
			if pkg.Name != "a" || pkg.Version == "" || path == "" {
				t.Errorf("%s belongs to %+v", path, pkg)
			}
			db.RunningVersion(pkg, &host.Proc{}, &host.Module{})
		}
	})
}
