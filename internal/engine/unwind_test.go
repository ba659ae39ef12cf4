package engine

import (
	"strings"
	"testing"

	"hotpatch/internal/patch"
)

func TestExceptions(t *testing.T) {
	prog, p := pair(t, "throw.cc")
	if p.EHFrameHdr == 0 {
		t.Fatal("the patch has no unwind tables")
	}
	g := run(t, prog)
	before := g.ask("x")
	e := engine(t, Options{})
	for range 3 {
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, Patched)
		if r.Unwind != "dl_find_object" {
			t.Skipf("the C library has no _dl_find_object: unwinding is %q", r.Unwind)
		}
		if rec, err := e.Status(g.pid()); err != nil || rec.Finder == nil || !rec.Finder.Active || rec.Units[0].Finder == 0 {
			t.Fatalf("record %+v, %v", rec, err)
		}
		wantState(t, e.Verify(g.pid()), Verified)
		// catcher: 7+1000; middle threw 5 and destroyed its guard; the backtrace
		// is as deep as before.
		want := strings.Replace(before, "10012 ", "11012 ", 1)
		depth := want[len("11012 "):]
		g.want("x", "11012 10"+depth)
		r = e.Remove(g.pid(), nil)
		wantState(t, r, Removed)
		g.want("x", before)
	}
}
