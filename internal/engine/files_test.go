package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
)

// TestInFiles maps code from files, as where anonymous memory may not be
// executable: in the root directory of the machine and in one that is empty.
// That SELinux then lets it, no machine here can show.
func TestInFiles(t *testing.T) {
	prog, p := pair(t, "throw.cc")
	if p.EHFrameHdr == 0 {
		t.Fatal("the patch has no unwind tables, so no finder is mapped")
	}
	g := run(t, prog)
	before := g.ask("x")
	e := engine(t, Options{})
	e.inFiles = true
	maps := func() string {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for range 2 {
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
		if got := g.ask("x"); got == before {
			t.Errorf("after apply: %s, as before", got)
		}
		if n := strings.Count(maps(), "/.hotpatch-"); n != 2 { // the overlay and the finder
			t.Errorf("%d mappings of files, want 2:\n%s", n, maps())
		}
		wantState(t, e.Verify(g.pid()), Verified)
		wantState(t, e.Remove(g.pid(), nil), Removed)
		g.want("x", before)
	}
	if left, err := filepath.Glob("/.hotpatch-*"); err != nil || len(left) > 0 {
		t.Errorf("files %v are left, %v", left, err)
	}
}

// TestNoFiles: where code may lie neither in anonymous memory nor in a file,
// nothing is changed and the kernel's words are passed on.
func TestNoFiles(t *testing.T) {
	prog, p := pair(t, "server.c")
	root := t.TempDir()
	if err := unix.Mount("none", root, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	g := run(t, prog, "1", "chroot", root)
	e := engine(t, Options{})
	e.inFiles = true
	before, _ := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
	r := e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Refused)
	if len(r.Reasons) != 1 || r.Reasons[0].Code != Kernel || !strings.Contains(r.Reasons[0].Detail, "operation not permitted") {
		t.Errorf("reasons %+v, want %s with what mmap(2) says of a file system without execution", r.Reasons, Kernel)
	}
	g.want("v", oldSum)
	after, err := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
	if err != nil || string(after) != string(before) {
		t.Errorf("mappings changed, %v:\n%s\n%s", err, before, after)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("files %v are left, %v", left, err)
	}
	if err := unix.Mount("none", root, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
	g.want("v", newSum)
	wantState(t, e.Remove(g.pid(), nil), Removed)
	g.want("v", oldSum)
}
