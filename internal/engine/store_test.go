package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
