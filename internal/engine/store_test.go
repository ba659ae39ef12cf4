package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// TestRecordCutOff: whoever is killed while it saves a record leaves the one
// before it, and what is saved next is found.
func TestRecordCutOff(t *testing.T) {
	boot, err := process.BootID()
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenStore(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	id := process.ID{Pid: 1, Start: 2}
	save := func(phase Phase) []byte {
		t.Helper()
		if err := s.Save(&Record{ID: id, Boot: boot, Phase: phase}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(s.path(id))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want := func(what string, n int, phase Phase) {
		t.Helper()
		r, err := s.Load(id)
		switch {
		case err != nil:
			t.Fatalf("%s of %d bytes: %v", what, n, err)
		case r == nil && phase != "", r != nil && r.Phase != phase:
			t.Fatalf("%s of %d bytes: %+v, want phase %q", what, n, r, phase)
		}
	}
	first := save(Intent)
	both := save(Clearing)
	for n := range both {
		if err := os.WriteFile(s.path(id), both[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		switch {
		case n < len(first):
			want("file", n, "")
		default:
			want("file", n, Intent)
		}
		save(Done)
		want("file and one more", n, Done)
	}
	s.Drop(id)
	if want("dropped", 0, ""); s.Has(id) {
		t.Error("an empty record is one")
	}
	for range 1000 {
		save(Intent)
	}
	b := save(Done)
	if want("long file", len(b), Done); len(b) > 100<<10 {
		t.Errorf("the file grows to %d bytes", len(b))
	}
	if err := os.WriteFile(s.path(id), []byte("\nno record\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(id); err == nil || !strings.Contains(err.Error(), "load record of process 1") {
		t.Errorf("a file of something else: %v", err)
	}
}

// TestDamagedRecord: a record that cannot be read is as good as none, and whoever
// meets it first says so.
func TestDamagedRecord(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "1")
	e := engine(t, Options{})
	damage := func() {
		t.Helper()
		if err := os.WriteFile(e.store.path(e.Verify(g.pid()).ID), []byte("garbage\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(rs []Reason) {
		t.Helper()
		if len(rs) != 1 || rs[0].Code != DamagedRecord {
			t.Errorf("reasons %+v, want %s", rs, DamagedRecord)
		}
	}
	damage()
	rec, err := e.Status(g.pid())
	if err != nil || rec == nil || len(rec.Units) != 0 {
		t.Fatalf("status %+v, %v", rec, err)
	}
	want(rec.Notes)
	damage()
	r := e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Patched)
	want(r.Reasons)
	damage()
	if rec, err = e.Status(g.pid()); err != nil || rec == nil || len(rec.Units) != 1 {
		t.Fatalf("status %+v, %v", rec, err)
	}
	want(rec.Notes)
	damage()
	r = e.Verify(g.pid())
	wantState(t, r, Verified)
	want(r.Reasons)
	damage()
	r = e.Remove(g.pid(), nil)
	wantState(t, r, Removed)
	want(r.Reasons)
	g.want("v", oldSum)
}

// TestSweep: the files of a process that has ended are removed, unless it was
// seen from elsewhere and may be there.
func TestSweep(t *testing.T) {
	s, err := OpenStore(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	self, err := process.Open(os.Getpid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	ended, elsewhere := process.ID{Pid: 1, Start: 1 << 60}, process.ID{Pid: 2, Start: 1 << 60}
	for _, id := range []process.ID{self.ID, ended, elsewhere} {
		unlock, err := s.Lock(id)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		if err := s.Save(&Record{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(s.lockPath(elsewhere), []byte("pid:[1] time:[1]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[process.ID]bool{self.ID: true, ended: false, elsewhere: true} {
		_, err := os.Stat(s.lockPath(id))
		if has := s.Has(id); has != want || (err == nil) != want {
			t.Errorf("%v: record %t, lock file %v, want both %t", id, has, err, want)
		}
	}
}

// TestFullStore: where the store has no room for all that a transaction writes,
// nothing is changed; what only looks needs none.
func TestFullStore(t *testing.T) {
	prog, p := pair(t, "server.c")
	dir := t.TempDir()
	const pages = 64
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("mode=700,size=%d", pages*page)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	e := engine(t, Options{Store: dir})
	if err := e.store.SavePatch(p); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	// leave leaves so many pages free.
	leave := func(n int) {
		t.Helper()
		os.Remove(filler)
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filler, make([]byte, max(0, int(st.Bfree)-n)*page), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := run(t, prog, "1")
	for _, first := range []bool{true, false} { // without a record, and with one
		failed, done := 0, 0
		for n := range pages / 2 {
			leave(n)
			r := e.Apply(g.pid(), []*patch.Patch{p})
			leave(0)
			switch r.State {
			case Patched:
				done++
				if len(r.Reasons) > 0 {
					t.Errorf("%d pages: patched, and %+v", n, r.Reasons)
				}
				g.want("v", newSum)
				wantState(t, e.Verify(g.pid()), Verified)
				var st unix.Stat_t
				if err := unix.Stat(e.store.path(r.ID), &st); err != nil || st.Blocks*512 > st.Size+page {
					t.Errorf("%d pages: a record of %d bytes takes %d blocks; %v", n, st.Size, st.Blocks, err)
				}
			case Failed:
				failed++
				if len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0].Detail, "make room for the store") || strings.Contains(r.Reasons[0].Detail, "undo") {
					t.Errorf("%d pages: %+v", n, r.Reasons)
				}
				g.want("v", oldSum)
				wantState(t, e.Verify(g.pid()), Already)
			default:
				t.Fatalf("%d pages: %s %+v", n, r.State, r.Reasons)
			}
			leave(pages)
			want := Already
			if r.State == Patched {
				want = Removed
			}
			wantState(t, e.Remove(g.pid(), nil), want)
			if first {
				e.store.Forget(r.ID)
			}
		}
		t.Logf("%d times failed, %d times patched", failed, done)
		if failed == 0 || done == 0 {
			t.Errorf("%d times failed, %d times patched, want both", failed, done)
		}
	}
}
