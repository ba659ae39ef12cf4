package host_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hotpatch/internal/host"
	"hotpatch/internal/module"
)

// privileged skips a test that looks into other processes when that is not allowed.
func privileged(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: map_files, chroot and mount namespaces")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatal("gcc is not installed: apt install gcc libc6-dev")
	}
}

func run(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// tempDir is a directory that only root can write, as system directories are.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

const source = "testdata/victim.c"

// buildStatic makes a version of the program that needs no other file.
func buildStatic(t testing.TB, out string, version int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "gcc", "-static", "-O1", "-Wl,--build-id", fmt.Sprintf("-DVERSION=%d", version), "-o", out, source)
}

// buildLibrary makes a version of the program's library.
func buildLibrary(t testing.TB, out string, version int) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "lib.c")
	if err := os.WriteFile(src, fmt.Appendf(nil, "int version(void) { return %d; }\n", version), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "gcc", "-shared", "-fPIC", "-Wl,--build-id", "-Wl,-soname,libvictim.so.1", "-o", out, src)
}

// buildDynamic makes program and library in dir: prog, libvictim.so.1 -> libvictim.so.1.0.0.
func buildDynamic(t testing.TB, dir string) (prog, lib string) {
	t.Helper()
	prog, lib = filepath.Join(dir, "prog"), filepath.Join(dir, "libvictim.so.1.0.0")
	buildLibrary(t, lib, 1)
	symlink(t, "libvictim.so.1.0.0", filepath.Join(dir, "libvictim.so.1"))
	run(t, "gcc", "-DLIBRARY", "-Wl,--build-id", "-pthread", "-o", prog, source, lib, "-Xlinker", "-rpath="+dir)
	return prog, lib
}

func symlink(t testing.TB, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// write puts another file at path.
func write(t testing.TB, path, text string) {
	t.Helper()
	remove(t, path)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// start runs a program until it says that it is ready, and ends it with the test.
func start(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // by the signal
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("%v says %q, %v", cmd.Args, line, err)
	}
	return cmd.Process.Pid
}

// scan gives the one process.
func scan(t testing.TB, pid int, opts host.Options) *host.Proc {
	t.Helper()
	opts.PIDs = []int{pid}
	procs, err := host.Scan(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if len(procs) != 1 || procs[0].PID != pid {
		t.Fatalf("scan of %d: %+v", pid, procs)
	}
	if procs[0].Err != nil {
		t.Fatal(procs[0].Err)
	}
	return &procs[0]
}

// find is the module of that path.
func find(t testing.TB, p *host.Proc, path string) *host.Module {
	t.Helper()
	for i := range p.Modules {
		if p.Modules[i].Path == path {
			return &p.Modules[i]
		}
	}
	t.Fatalf("process %d has no module %q: %+v", p.PID, path, p.Modules)
	return nil
}

func identity(t testing.TB, path string) module.Identity {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return identityOf(t, f)
}

func identityOf(t testing.TB, f *os.File) module.Identity {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	id, err := module.ReadIdentity(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return id
}
