package engine

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
)

// A later patch takes over from an earlier one what that brought: the values of
// its variables, and what its addresses lead to, also after a rollback to it.
func TestLater(t *testing.T) {
	prog, p1 := pairTo(t, "later.c", 1)
	_, p2 := pairTo(t, "later.c", 2)
	if !p1.Escapes || len(p1.Variables) == 0 || len(p2.Variables) == 0 {
		t.Fatalf("patch 1: escapes %t, variables %v; patch 2: %v", p1.Escapes, p1.Variables, p2.Variables)
	}
	g := run(t, prog)
	e := engine(t, Options{Deadline: 3 * time.Second})
	g.want("c", "0")
	g.want("o", "21")
	apply := func(p *patch.Patch) {
		t.Helper()
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
		wantState(t, e.Verify(g.pid()), Verified)
	}
	apply(p1)
	g.want("c", "1001")
	g.want("c", "1002")
	g.want("o", "93")
	g.want("e", "0")
	g.want("k", "enrolled")
	g.want("h", "100")
	apply(p2)
	g.want("o", "21") // the baseline's again
	g.want("c", "2003")
	g.want("h", "200") // by the address that the first patch gave
	g.want("e", "1")
	g.want("k", "enrolled")
	g.want("e", "1")
	r := e.Revert(g.pid(), nil)
	wantState(t, r, Removed)
	if len(r.Restored) != 1 || r.Restored[0] != p1.ID {
		t.Errorf("restored %v, want %s", r.Restored, p1.ID)
	}
	wantState(t, e.Verify(g.pid()), Verified)
	g.want("c", "1004")
	g.want("h", "100")
	g.want("e", "1")
	g.want("o", "93")
	apply(p2)
	g.want("c", "2005")
	g.want("h", "200")
	wantState(t, e.Revert(g.pid(), nil), Removed)
	g.want("c", "1006")
	wantState(t, e.Revert(g.pid(), nil), Removed)
	g.want("c", "0")
	g.want("o", "21")
	g.want("e", "0")
	g.want("h", "100") // what was registered stays
	wantState(t, e.Revert(g.pid(), nil), Already)
}

// TestChildOfMany: a child knows what is in force in it, and what is out of
// force and stays, after whatever became of its parent.
func TestChildOfMany(t *testing.T) {
	prog, p1 := pairTo(t, "later.c", 1)
	_, p2 := pairTo(t, "later.c", 2)
	for _, seal := range []bool{false, true} {
		g := run(t, prog)
		e := engine(t, Options{Seal: seal})
		child := func(want State) {
			t.Helper()
			pid, err := strconv.Atoi(g.ask("f"))
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // it may have ended
			wantState(t, e.Verify(pid), want)
			for _, p := range []*patch.Patch{p1, p2} {
				r := e.Apply(pid, []*patch.Patch{p})
				if len(r.Reasons) > 0 {
					t.Errorf("apply %s: %s %+v", p.ID.Short(), r.State, r.Reasons)
				}
				wantState(t, e.Verify(pid), Verified)
			}
			wantState(t, e.Remove(pid, nil), Removed)
			wantState(t, e.Verify(pid), Already)
		}
		for range 2 {
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
			child(Verified)
			wantState(t, e.Remove(g.pid(), nil), Removed)
			child(Already)
		}
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Patched)
		g.want("c", "2001")
		child(Verified)
		wantState(t, e.Remove(g.pid(), nil), Removed)
		child(Already)
		// What is in the process is found without its record, too.
		e.store.Drop(e.Verify(g.pid()).ID)
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
		wantState(t, e.Verify(g.pid()), Verified)
	}
}

// A replacement that fails leaves the earlier patch as it was.
func TestLaterBlocked(t *testing.T) {
	prog, p1 := pairTo(t, "later.c", 1)
	_, p2 := pairTo(t, "later.c", 2)
	g := run(t, prog)
	e := engine(t, Options{Deadline: 300 * time.Millisecond, Level: Strict})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
	g.want("k", "enrolled")
	g.want("c", "1001")
	g.want("w", "inside")
	r := e.Apply(g.pid(), []*patch.Patch{p2})
	wantState(t, r, Blocked)
	t.Log(r.Reasons)
	wantState(t, e.Verify(g.pid()), Verified)
	g.want("c", "1002")
	g.want("h", "100")
	g.want("r", "101")
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Patched)
	g.want("c", "2003")
	g.want("h", "200")
}
