package live

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestCopies: a library that the dynamic linker has loaded into two namespaces
// is patched in both, or in none.
func TestCopies(t *testing.T) {
	t.Parallel()
	m := build(t, "copies.c", loaded)
	p := m.patch(t)
	if len(p.Imports) == 0 {
		t.Fatal("the patch imports nothing: the test does not show from where")
	}
	host := compile(t, filepath.Join(t.TempDir(), "host"), "testdata/dlmopen.c", "-fPIE", "-pie")
	g := start(t, "LD_LIBRARY_PATH="+filepath.Dir(m.old), host)
	before := readText(t, g.pid())
	e := newEngine(t, engine.Options{})
	g.want("value", "10/1/1 10/1/1")
	for _, c := range []struct{ fixed, old string }{{"200/2/C 200/2/C", "10/3/1 10/3/1"}, {"200/4/C 200/4/C", "10/5/1 10/5/1"}} {
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, engine.Patched)
		if r.Functions != 2*len(p.Steers) || !slices.Equal(r.Patches, []patch.ID{p.ID}) {
			t.Errorf("%d functions of patches %v, want twice %d of one", r.Functions, r.Patches, len(p.Steers))
		}
		g.want("value", c.fixed)
		rec, err := e.Status(g.pid())
		if err != nil || len(rec.Units) != 2 || slices.Equal(rec.Units[0].Imports, rec.Units[1].Imports) {
			t.Errorf("record %+v, %v; want two units, each with the C library of its own namespace", rec, err)
		}
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Already)
		wantState(t, e.Verify(g.pid()), engine.Verified)
		back := e.Remove(g.pid(), nil)
		wantState(t, back, engine.Removed)
		g.want("value", c.old)
		sameText(t, g.pid(), before)
		result(t, r, back)
	}
}

// TestLaterCopy: a copy that is loaded after the patch is patched on its own.
func TestLaterCopy(t *testing.T) {
	t.Parallel()
	m := build(t, "copies.c", loaded)
	p := m.patch(t)
	host := compile(t, filepath.Join(t.TempDir(), "host"), "testdata/dlmopen.c", "-fPIE", "-pie", "-DLATER")
	g := start(t, "LD_LIBRARY_PATH="+filepath.Dir(m.old), host)
	e := newEngine(t, engine.Options{Deadline: time.Second})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	lacking := func(want bool) {
		t.Helper()
		rec, err := e.Status(g.pid())
		if err != nil || rec == nil || rec.Units[0].Lacking != want {
			t.Errorf("record %+v, %v; want a copy without the patch: %t", rec, err, want)
		}
	}
	lacking(false)
	g.want("value", "200/1/C 10/1/1") // it is loaded now
	lacking(true)
	r := e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, engine.Patched)
	if r.Functions != len(p.Steers) {
		t.Errorf("%d functions, want %d", r.Functions, len(p.Steers))
	}
	lacking(false)
	g.want("value", "200/2/C 200/2/C")
	wantState(t, e.Verify(g.pid()), engine.Verified)
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	g.want("value", "10/3/1 10/3/1")
	result(t, r)
}
