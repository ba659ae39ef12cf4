package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"hotpatch/internal/host"
	"hotpatch/internal/module"
)

// check compares a module with what it should be, and what Running and Fixed
// open with what the module says.
func check(t *testing.T, p *host.Proc, m *host.Module, state host.State, onDisk string) {
	t.Helper()
	if m.State != state || m.OnDisk != onDisk {
		t.Fatalf("%s is %s (%s), on disk %q; want %s, %q", m.Path, m.State, m.Reason, m.OnDisk, state, onDisk)
	}
	if (m.Running == m.Fixed) != (state == host.Current) {
		t.Errorf("%s is %s, with identities %v and %v", m.Path, state, m.Running, m.Fixed)
	}
	f, err := host.Running(p, m)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if id := identityOf(t, f); m.Running != (module.Identity{}) && id != m.Running {
		t.Errorf("Running opens %v, not %v", id, m.Running)
	}
	f, err = host.Fixed(p, m)
	if state == host.Gone {
		if err == nil {
			t.Error("Fixed opens a file that is gone")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if id := identityOf(t, f); m.Fixed != (module.Identity{}) && id != m.Fixed {
		t.Errorf("Fixed opens %v, not %v", id, m.Fixed)
	}
}

// TestReplaced walks one program through what can happen to its files.
func TestReplaced(t *testing.T) {
	privileged(t)
	for _, tc := range []struct {
		name   string
		act    func(t *testing.T, dir, prog, lib string)
		path   string // of the module, below the directory
		state  host.State
		onDisk string
	}{
		{"untouched program", func(*testing.T, string, string, string) {}, "prog", host.Current, "prog"},
		{"untouched library", func(*testing.T, string, string, string) {}, "libvictim.so.1.0.0", host.Current, "libvictim.so.1.0.0"},
		{"library replaced", func(t *testing.T, dir, _, lib string) {
			buildLibrary(t, dir+"/new", 2)
			rename(t, dir+"/new", lib)
		}, "libvictim.so.1.0.0", host.Outdated, "libvictim.so.1.0.0"},
		{"program replaced", func(t *testing.T, dir, prog, _ string) {
			buildStatic(t, dir+"/new", 2)
			rename(t, dir+"/new", prog)
		}, "prog", host.Outdated, "prog"},
		{"same content", func(t *testing.T, dir, _, lib string) {
			copyFile(t, lib, dir+"/new")
			rename(t, dir+"/new", lib)
		}, "libvictim.so.1.0.0", host.Current, "libvictim.so.1.0.0"},
		{"same build-id, other content", func(t *testing.T, dir, _, lib string) {
			run(t, "strip", "-o", dir+"/new", lib)
			rename(t, dir+"/new", lib)
		}, "libvictim.so.1.0.0", host.Outdated, "libvictim.so.1.0.0"},
		{"replaced under another name", func(t *testing.T, dir, _, lib string) {
			buildLibrary(t, dir+"/libvictim.so.1.0.1", 2)
			remove(t, dir+"/libvictim.so.1")
			symlink(t, "libvictim.so.1.0.1", dir+"/libvictim.so.1")
			remove(t, lib)
		}, "libvictim.so.1.0.0", host.Outdated, "libvictim.so.1.0.1"},
		{"another library under its soname", func(t *testing.T, dir, prog, lib string) {
			remove(t, dir+"/libvictim.so.1")
			symlink(t, "prog", dir+"/libvictim.so.1")
			remove(t, lib)
		}, "libvictim.so.1.0.0", host.Gone, ""},
		{"library removed", func(t *testing.T, _, _, lib string) { remove(t, lib) }, "libvictim.so.1.0.0", host.Gone, ""},
		{"program removed", func(t *testing.T, _, prog, _ string) { remove(t, prog) }, "prog", host.Gone, ""},
		{"directory in its place", func(t *testing.T, _, prog, _ string) {
			remove(t, prog)
			if err := os.Mkdir(prog, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "prog", host.Gone, ""},
		{"empty file in its place", func(t *testing.T, _, prog, _ string) { write(t, prog, "") }, "prog", host.Gone, ""},
		{"text in its place", func(t *testing.T, _, prog, _ string) { write(t, prog, "#!/bin/sh\necho this is no ELF file\n") }, "prog", host.Gone, ""},
		{"half of a file in its place", func(t *testing.T, _, _, lib string) {
			b, err := os.ReadFile(lib)
			if err != nil {
				t.Fatal(err)
			}
			write(t, lib, string(b[:len(b)/2]))
		}, "libvictim.so.1.0.0", host.Gone, ""},
		{"loop of links in its place", func(t *testing.T, _, prog, _ string) {
			remove(t, prog)
			symlink(t, "prog", prog)
		}, "prog", host.Gone, ""},
		{"link to a text in its place", func(t *testing.T, _, prog, _ string) {
			remove(t, prog)
			symlink(t, "/etc/passwd", prog)
		}, "prog", host.Gone, ""},
		{"renamed", func(t *testing.T, dir, prog, _ string) { rename(t, prog, dir+"/prog.old") }, "prog.old", host.Current, "prog.old"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tempDir(t)
			prog, lib := buildDynamic(t, dir)
			was := identity(t, filepath.Join(dir, strings.TrimSuffix(tc.path, ".old")))
			pid := start(t, exec.Command(prog))
			tc.act(t, dir, prog, lib)
			p := scan(t, pid, host.Options{Identities: true})
			onDisk := ""
			if tc.onDisk != "" {
				onDisk = filepath.Join(dir, tc.onDisk)
			}
			m := find(t, p, filepath.Join(dir, tc.path))
			check(t, p, m, tc.state, onDisk)
			if m.Running != was {
				t.Errorf("the build that runs is %v, want %v", m.Running, was)
			}
			if onDisk != "" {
				if is := identity(t, onDisk); m.Fixed != is {
					t.Errorf("the build on disk is %v, want %v", m.Fixed, is)
				}
			}
		})
	}
}

// TestCopiedCode: a program that has put a copy of its code in the place of its
// file's mapping still runs that build.
func TestCopiedCode(t *testing.T) {
	privileged(t)
	dir := tempDir(t)
	prog, _ := buildDynamic(t, dir)
	pid := start(t, exec.Command(prog, "copy"))
	for _, want := range []host.State{host.Current, host.Outdated} {
		p := scan(t, pid, host.Options{})
		check(t, p, find(t, p, prog), want, prog)
		buildStatic(t, dir+"/new", 2)
		rename(t, dir+"/new", prog)
	}
}

func TestProcess(t *testing.T) {
	privileged(t)
	prog, _ := buildDynamic(t, tempDir(t))
	before := time.Now()
	cmd := exec.Command(prog)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	pid := start(t, cmd)
	p := scan(t, pid, host.Options{})
	if p.Started.Before(before.Add(-100*time.Millisecond)) || p.Started.After(time.Now()) {
		t.Errorf("it began at %v, not after %v", p.Started, before)
	}
	got := host.Proc{PID: pid, PPID: p.PPID, Comm: p.Comm, Exe: p.Exe, UID: p.UID, Root: p.Root, OtherNS: p.OtherNS}
	want := host.Proc{PID: pid, PPID: os.Getpid(), Comm: "prog", Exe: prog, UID: 65534, Root: "/"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(host.Proc{}, host.Module{})); diff != "" {
		t.Errorf("process (-want +got):\n%s", diff)
	}
	if m := find(t, p, prog); m.Running != (module.Identity{}) {
		t.Error("the identity of a current module was read without being asked for")
	}
}

// TestNames runs programs whose paths look like something else in maps.
func TestNames(t *testing.T) {
	privileged(t)
	for _, name := range []string{"prog (deleted)", "new\nline", "back\\slash", "memfd:prog", "a  b "} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			path := filepath.Join(dir, name)
			buildStatic(t, dir+"/prog", 1)
			rename(t, dir+"/prog", path)
			pid := start(t, exec.Command(path))
			p := scan(t, pid, host.Options{})
			check(t, p, find(t, p, path), host.Current, path)
			buildStatic(t, path+".new", 2)
			rename(t, path+".new", path)
			p = scan(t, pid, host.Options{})
			check(t, p, find(t, p, path), host.Outdated, path)
		})
	}
}

func TestChroot(t *testing.T) {
	privileged(t)
	jail := tempDir(t)
	buildStatic(t, jail+"/bin/victim", 1)
	cmd := exec.Command("/bin/victim")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: jail}
	cmd.Dir = "/"
	cmd.Err = nil // the path is looked up inside
	pid := start(t, cmd)
	p := scan(t, pid, host.Options{})
	if p.Root != jail || p.Exe != "/bin/victim" || p.OtherNS {
		t.Errorf("root %q, exe %q, other namespace %v", p.Root, p.Exe, p.OtherNS)
	}
	check(t, p, find(t, p, "/bin/victim"), host.Current, "/bin/victim")
	// A link that leads out of the jail is followed inside it.
	buildStatic(t, jail+"/opt/new", 2)
	remove(t, jail+"/bin/victim")
	symlink(t, "../../../../../opt/new", jail+"/bin/victim")
	p = scan(t, pid, host.Options{})
	check(t, p, find(t, p, "/bin/victim"), host.Outdated, "/opt/new")
	remove(t, jail+"/bin/victim")
	symlink(t, "/etc/passwd", jail+"/bin/victim")
	p = scan(t, pid, host.Options{})
	if m := find(t, p, "/bin/victim"); m.State != host.Gone {
		t.Errorf("a link out of the root: %s (%s)", m.State, m.Reason)
	}
}

// TestChrootLater is a daemon that locks itself in: what it maps lies outside.
func TestChrootLater(t *testing.T) {
	privileged(t)
	dir, jail := tempDir(t), tempDir(t)
	prog, lib := buildDynamic(t, dir)
	pid := start(t, exec.Command(prog, "chroot", jail))
	p := scan(t, pid, host.Options{})
	m := find(t, p, lib)
	check(t, p, m, host.Current, lib)
	if !m.Outside || p.Root != jail {
		t.Errorf("outside %v, root %q", m.Outside, p.Root)
	}
	buildLibrary(t, dir+"/new", 2)
	rename(t, dir+"/new", lib)
	p = scan(t, pid, host.Options{})
	check(t, p, find(t, p, lib), host.Outdated, lib)
}

// TestMountNamespace: what lies at the path for the process counts, not for us.
func TestMountNamespace(t *testing.T) {
	privileged(t)
	dir, jail := tempDir(t), tempDir(t)
	buildStatic(t, dir+"/victim", 1)
	buildStatic(t, jail+"/two", 2)
	script := `mount -t tmpfs none "$1" && cp "$2/two" "$1/victim" && exec "$1/victim"`
	cmd := exec.Command("sh", "-c", script, "sh", dir, jail)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	pid := start(t, cmd)
	path := dir + "/victim"
	p := scan(t, pid, host.Options{Identities: true})
	if !p.OtherNS || p.MountNS == 0 {
		t.Errorf("other namespace %v, %d", p.OtherNS, p.MountNS)
	}
	m := find(t, p, path)
	check(t, p, m, host.Current, path)
	if want := identity(t, jail+"/two"); m.Running != want {
		t.Errorf("running %v, want %v", m.Running, want)
	}
	// A replacement out here does not matter, one in there does.
	remove(t, path)
	p = scan(t, pid, host.Options{})
	check(t, p, find(t, p, path), host.Current, path)
	buildStatic(t, jail+"/three", 3)
	inside := fmt.Sprintf("/proc/%d/root%s", pid, dir)
	copyFile(t, jail+"/three", inside+"/new")
	rename(t, inside+"/new", inside+"/victim")
	p = scan(t, pid, host.Options{})
	check(t, p, find(t, p, path), host.Outdated, path)
}

// TestOverlay: on overlayfs the numbers in maps are not those of the file.
func TestOverlay(t *testing.T) {
	privileged(t)
	base := tempDir(t)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	buildStatic(t, base+"/lower/victim", 1)
	opts := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)
	if err := unix.Mount("overlay", base+"/merged", "overlay", 0, opts); err != nil {
		t.Skipf("overlayfs is not available: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(base+"/merged", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := base + "/merged/victim"
	pid := start(t, exec.Command(path))
	p := scan(t, pid, host.Options{})
	check(t, p, find(t, p, path), host.Current, path)
	buildStatic(t, base+"/merged/new", 2)
	rename(t, base+"/merged/new", path)
	p = scan(t, pid, host.Options{})
	check(t, p, find(t, p, path), host.Outdated, path)
}

// TestNoModules: what is executable memory but no ELF file on disk is left out.
func TestNoModules(t *testing.T) {
	privileged(t)
	dir := tempDir(t)
	prog, _ := buildDynamic(t, dir)
	if err := os.WriteFile(dir+"/jit", make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/short", []byte("\x7fE"), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := start(t, exec.Command(prog, "map", "/dev/zero", dir+"/jit", dir+"/short"))
	for _, m := range scan(t, pid, host.Options{}).Modules {
		if m.State != host.Current || strings.Contains(m.Path, "memfd") || strings.HasPrefix(m.Path, "/dev/") || filepath.Base(m.Path) == "jit" {
			t.Errorf("%s is listed, as %s", m.Path, m.State)
		}
	}

	// A program that runs from memory only.
	buildStatic(t, dir+"/static", 1)
	data, err := os.ReadFile(dir + "/static")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("prog", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	mem := os.NewFile(uintptr(fd), "memfd")
	defer mem.Close()
	if _, err := mem.Write(data); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{mem}
	pid = start(t, cmd)
	if procs, err := host.Scan(t.Context(), host.Options{PIDs: []int{pid}}); err != nil || len(procs) != 0 {
		t.Errorf("a program in a memfd is listed: %+v, %v", procs, err)
	}
}

// TestFirstThreadEnded: the memory then shows only through another thread.
func TestFirstThreadEnded(t *testing.T) {
	privileged(t)
	dir := tempDir(t)
	prog, lib := buildDynamic(t, dir)
	pid := start(t, exec.Command(prog, "thread"))
	for range 100 { // until it has ended
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(b), ") Z ") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	buildLibrary(t, dir+"/new", 2)
	rename(t, dir+"/new", lib)
	p := scan(t, pid, host.Options{})
	check(t, p, find(t, p, lib), host.Outdated, lib)
}

// TestEnds: processes that come and go during scans are listed or not, never
// an error, and one that is gone is a ChangedError later.
func TestEnds(t *testing.T) {
	privileged(t)
	dir := tempDir(t)
	prog, lib := buildDynamic(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	storm := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			err = exec.Command("/bin/true").Run()
		}
		storm <- err
	}()
	cache := &host.Cache{}
	for range 40 {
		procs, err := host.Scan(t.Context(), host.Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range procs {
			// Others may be out of reach, such as one with more capabilities than we have.
			if p.Err != nil && !errors.Is(p.Err, os.ErrPermission) {
				t.Error(p.Err)
			}
		}
	}
	stop()
	if err := <-storm; err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(prog)
	pid := start(t, cmd)
	p := scan(t, pid, host.Options{})
	m := find(t, p, lib)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(*host.Proc, *host.Module) (*os.File, error){"Running": host.Running, "Fixed": host.Fixed} {
		var changed *host.ChangedError
		if _, err := open(p, m); !errors.As(err, &changed) || changed.PID != pid {
			t.Errorf("%s of an ended process: %v", name, err)
		}
	}
	if procs, err := host.Scan(t.Context(), host.Options{PIDs: []int{pid}}); err != nil || len(procs) != 0 {
		t.Errorf("an ended process is listed: %+v, %v", procs, err)
	}
}

func TestFixedRefuses(t *testing.T) {
	privileged(t)
	dir := tempDir(t)
	prog, lib := buildDynamic(t, dir)
	pid := start(t, exec.Command(prog))
	buildLibrary(t, dir+"/new", 2)
	rename(t, dir+"/new", lib)
	p := scan(t, pid, host.Options{})
	m := find(t, p, lib)
	check(t, p, m, host.Outdated, lib)

	for _, tc := range []struct {
		uid  int
		mode os.FileMode
		ok   bool
	}{{0, 0o644, true}, {0, 0o664, false}, {0, 0o646, false}, {65534, 0o644, false}, {0, 0o755, true}} {
		if err := errors.Join(os.Chown(lib, tc.uid, 0), os.Chmod(lib, tc.mode)); err != nil {
			t.Fatal(err)
		}
		f, err := host.Fixed(p, m)
		if err == nil {
			f.Close()
		}
		var untrusted *host.UntrustedError
		if tc.ok != (err == nil) || err != nil && !errors.As(err, &untrusted) {
			t.Errorf("owner %d, mode %o: %v", tc.uid, tc.mode, err)
		}
	}

	var changed *host.ChangedError
	buildLibrary(t, dir+"/new", 3)
	rename(t, dir+"/new", lib)
	if _, err := host.Fixed(p, m); !errors.As(err, &changed) {
		t.Errorf("replaced once more: %v", err)
	}
	remove(t, lib)
	if err := unix.Mkfifo(lib, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Fixed(p, m); !errors.As(err, &changed) {
		t.Errorf("became a pipe: %v", err)
	}
	remove(t, lib)
	if _, err := host.Fixed(p, m); !errors.As(err, &changed) {
		t.Errorf("removed: %v", err)
	}
	again := *p
	again.Start++
	if _, err := host.Running(&again, m); !errors.As(err, &changed) {
		t.Errorf("another process of that number: %v", err)
	}
}
