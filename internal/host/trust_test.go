package host_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"hotpatch/internal/host"
)

// fixed opens what replaces a module and says who is not trusted, if somebody is not.
func fixed(t *testing.T, p *host.Proc, m *host.Module) string {
	t.Helper()
	f, err := host.Fixed(p, m)
	var untrusted *host.UntrustedError
	switch {
	case err == nil:
		f.Close()
		return ""
	case errors.As(err, &untrusted):
		return untrusted.Path
	}
	t.Fatal(err)
	return ""
}

// TestWayToFixed: whoever can change a directory or a link on the way to a file
// could put another one there, though that be root's.
func TestWayToFixed(t *testing.T) {
	privileged(t)
	const nobody = 65534
	for _, tc := range []struct {
		name string
		act  func(dir, real string) error
		at   string // what is not trusted, below the directory
	}{
		{"nothing wrong", func(string, string) error { return nil }, ""},
		{"directory of another", func(dir, _ string) error { return os.Chown(dir+"/opt", nobody, 0) }, "/opt"},
		{"directory open to a group", func(dir, _ string) error { return os.Chmod(dir+"/opt", 0o775) }, "/opt"},
		{"directory open to all", func(dir, _ string) error { return os.Chmod(dir+"/opt", 0o757) }, "/opt"},
		{"sticky", func(dir, _ string) error { return os.Chmod(dir+"/opt", 0o777|os.ModeSticky) }, ""},
		{"link of another in a sticky directory", func(dir, _ string) error {
			return errors.Join(os.Chmod(dir+"/opt", 0o777|os.ModeSticky), os.Lchown(dir+"/opt/link", nobody, 0))
		}, "/opt/link"},
		{"directory behind a link", func(_, real string) error { return os.Chown(real, nobody, 0) }, "/real"},
		{"link in a directory of another", func(dir, real string) error {
			return errors.Join(os.Mkdir(dir+"/home", 0o755), os.Remove(dir+"/opt/link"), os.Symlink("../home/on", dir+"/opt/link"),
				os.Symlink(real, dir+"/home/on"), os.Chown(dir+"/home", nobody, 0))
		}, "/home"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tempDir(t)
			real := dir + "/real"
			buildStatic(t, real+"/prog", 1)
			if err := os.Mkdir(dir+"/opt", 0o755); err != nil {
				t.Fatal(err)
			}
			// The process maps a file whose path is then made a way over links.
			buildStatic(t, dir+"/opt/link/prog", 1)
			pid := start(t, exec.Command(dir+"/opt/link/prog"))
			if err := os.RemoveAll(dir + "/opt/link"); err != nil {
				t.Fatal(err)
			}
			symlink(t, "../real", dir+"/opt/link")
			buildStatic(t, real+"/prog", 2)
			if err := tc.act(dir, real); err != nil {
				t.Fatal(err)
			}
			p := scan(t, pid, host.Options{})
			m := find(t, p, dir+"/opt/link/prog")
			if m.State != host.Outdated {
				t.Fatalf("%s: %s", m.State, m.Reason)
			}
			want := tc.at
			if want != "" {
				want = dir + want
			}
			if got := fixed(t, p, m); got != want {
				t.Errorf("not trusted: %q, want %q", got, want)
			}
		})
	}
}

// TestContainerOwner: in a container the files of its own root are trusted, for
// the processes that are in its user namespace and no others.
func TestContainerOwner(t *testing.T) {
	privileged(t)
	const nobody = 65534
	dir := tempDir(t)
	buildStatic(t, dir+"/victim", 1)
	buildStatic(t, dir+"/new", 2)
	mapped := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}},
		Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
	}
	for _, tc := range []struct {
		name  string
		attr  *syscall.SysProcAttr
		owner int
		ok    bool
	}{
		{"its root", mapped, nobody, true},
		{"the host's root", mapped, 0, true},
		{"another user", mapped, 1234, false},
		{"a mount namespace alone", &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}, nobody, false},
		{"no namespace", &syscall.SysProcAttr{}, nobody, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			prog := filepath.Join(dir, strings.ReplaceAll(tc.name, " ", "-"))
			copyFile(t, dir+"/victim", prog)
			cmd := exec.Command(prog)
			cmd.SysProcAttr = tc.attr
			pid := start(t, cmd)
			copyFile(t, dir+"/new", prog+".new")
			if err := os.Chown(prog+".new", tc.owner, 0); err != nil {
				t.Fatal(err)
			}
			rename(t, prog+".new", prog)
			p := scan(t, pid, host.Options{})
			if got := fixed(t, p, find(t, p, prog)); (got == "") != tc.ok {
				t.Errorf("not trusted: %q", got)
			}
		})
	}
}

// TestRecorded: a file of a package is held against the digest that dpkg keeps.
func TestRecorded(t *testing.T) {
	s := newSystem(t)
	s.dpkg("-i", s.pack(1))
	cmd := exec.Command("/usr/bin/victim")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: s.root}
	cmd.Dir, cmd.Err = "/", nil
	pid := start(t, cmd)
	s.dpkg("-i", s.pack(2))
	look := func() string {
		p := scan(t, pid, host.Options{Packages: true})
		m := find(t, p, "/usr/bin/victim")
		if m.State != host.Outdated || m.Package.Name != "victim" {
			t.Fatalf("%s, package %+v", m.State, m.Package)
		}
		return fixed(t, p, m)
	}
	if got := look(); got != "" {
		t.Errorf("as dpkg put it there: %q is not trusted", got)
	}
	if err := os.RemoveAll(s.root + "/var/lib/dpkg/info/victim.md5sums"); err != nil { // dpkg may make one itself
		t.Fatal(err)
	}
	if got := look(); got != "" {
		t.Errorf("no digest on record: %q is not trusted", got)
	}
	record := func(name, path string) {
		t.Helper()
		out, err := exec.Command("md5sum", s.root+path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.root+"/var/lib/dpkg/info/"+name+".md5sums", []byte(string(out[:32])+"  usr/bin/victim\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	record("victim", "/usr/bin/victim")
	if got := look(); got != "" {
		t.Errorf("the digest on record: %q is not trusted", got)
	}
	record("victim", "/usr/lib/victim/helper") // is the same
	buildStatic(t, s.root+"/usr/bin/victim", 3)
	if got := look(); got != "/usr/bin/victim" {
		t.Errorf("replaced by hand: %q is not trusted", got)
	}
	record("victim:amd64", "/usr/bin/victim")
	if got := look(); got != "" {
		t.Errorf("on record under its architecture: %q is not trusted", got)
	}
	// A diverted name is another package's: no digest of this one's is for it.
	record("victim:amd64", "/usr/lib/victim/helper")
	run(t, "dpkg-divert", "--root="+s.root, "--local", "--no-rename", "--divert", "/usr/bin/victim.real", "--add", "/usr/bin/victim")
	p := scan(t, pid, host.Options{})
	m := find(t, p, "/usr/bin/victim")
	m.Package = host.Package{Manager: "dpkg", Name: "victim", Arch: "amd64"}
	if got := fixed(t, p, m); got != "" {
		t.Errorf("diverted: %q is not trusted", got)
	}
}

// TestBeside: what lies beside a module is looked for where the process sees
// it, and read only if it is a regular file that may be trusted.
func TestBeside(t *testing.T) {
	privileged(t)
	jail := tempDir(t)
	buildStatic(t, jail+"/bin/victim", 1)
	cmd := exec.Command("/bin/victim")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: jail}
	cmd.Dir, cmd.Err = "/", nil
	p := scan(t, start(t, cmd), host.Options{})
	m := find(t, p, "/bin/victim")
	if err := os.Mkdir(jail+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		make func(at string) error
		ok   bool
	}{
		{"file", func(at string) error { return os.WriteFile(at, []byte("inside"), 0o644) }, true},
		{"nothing, though outside there is", func(string) error { return nil }, false},
		{"pipe", func(at string) error { return syscall.Mkfifo(at, 0o600) }, false},
		{"device", func(at string) error { return syscall.Mknod(at, syscall.S_IFCHR|0o600, 1<<8|5) }, false}, // /dev/zero
		{"socket", func(at string) error { return syscall.Mknod(at, syscall.S_IFSOCK|0o600, 0) }, false},
		{"directory", func(at string) error { return os.Mkdir(at, 0o755) }, false},
		{"magic link", func(at string) error { return os.Symlink("/proc/self/root/etc/passwd", at) }, false},
		{"of another", func(at string) error { return errors.Join(os.WriteFile(at, nil, 0o644), os.Chown(at, 65534, 0)) }, false},
	} {
		at := jail + "/etc/passwd"
		if err := errors.Join(os.RemoveAll(at), tc.make(at)); err != nil {
			t.Fatal(err)
		}
		f, err := host.Beside(p, m, "/../etc/passwd")
		if err == nil {
			if b := make([]byte, 6); tc.name == "file" {
				if _, err := f.Read(b); err != nil || string(b) != "inside" {
					t.Errorf("%s: read %q, %v", tc.name, b, err)
				}
			}
			f.Close()
		}
		if tc.ok != (err == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
