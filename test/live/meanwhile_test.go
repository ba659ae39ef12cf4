package live

import (
	"path/filepath"
	"strings"
	"testing"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// steps are the steps of an application, in order, and of a removal.
var steps = []string{
	"match", "place", "record intent", "map", "write", "commit", "verify", "record",
	"remove match", "remove record intent", "remove commit", "remove verify", "remove record", "remove clear out",
}

// once applies a patch, or removes one that is there, and calls do when the
// engine comes to a step for the first time.
func once(t *testing.T, g *target, p *patch.Patch, step string, do func()) (e *engine.Engine, r engine.Result) {
	t.Helper()
	o := engine.Options{Store: filepath.Join(t.TempDir(), "store")}
	step, removal := strings.CutPrefix(step, "remove ")
	hit := false
	e = watched(t, o, func(ev engine.Event) {
		if ev.State == step && !hit {
			hit = true
			do()
		}
	})
	if removal {
		wantState(t, newEngine(t, o).Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		r = e.Remove(g.pid(), nil)
	} else {
		r = e.Apply(g.pid(), []*patch.Patch{p})
	}
	if !hit {
		t.Fatalf("the engine never came to %q", step)
	}
	result(t, r)
	return e, r
}

// TestExec: the process executes a program while it is patched. That it has the
// same pid and file does not make it the process that was meant.
func TestExec(t *testing.T) {
	m := build(t, "places.c", program)
	p := m.patch(t)
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			e, r := once(t, g, p, step, func() { g.want("exec", "ready") })
			// After the last step it was patched, whatever came then.
			if want := engine.Exited; r.State != want && !(step == "record" && r.State == engine.Patched) {
				t.Errorf("the engine says %s, want %s: %+v", r.State, want, r.Reasons)
			}
			g.want("value", placeOld)
			before := readText(t, g.pid())
			wantState(t, e.Verify(g.pid()), engine.Already)
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			g.want("value", placeFixed)
			wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			sameText(t, g.pid(), before)
		})
	}
}

// TestUnloaded: the program unloads the library while it is patched.
func TestUnloaded(t *testing.T) {
	m := build(t, "args.c", loaded)
	p := m.patch(t)
	host := compile(t, filepath.Join(t.TempDir(), "reload"), "testdata/reload.c", "-fPIE", "-pie")
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			g := start(t, "", host)
			g.want("open "+m.old, "opened")
			e, r := once(t, g, p, step, func() { g.want("close", "0") })
			switch step {
			case "record": // what comes later is no matter of this transaction
				wantState(t, r, engine.Patched)
			case "remove record", "remove clear out":
				wantState(t, r, engine.Removed)
			default:
				wantState(t, r, engine.Refused)
				if len(r.Reasons) != 1 || r.Reasons[0].Code != engine.NoModule {
					t.Errorf("reasons %+v, want %s", r.Reasons, engine.NoModule)
				}
			}
			wantState(t, e.Verify(g.pid()), engine.Already)
			g.want("open "+m.old, "opened")
			g.want("integer", "42")
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			g.want("integer", "402")
			wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			g.want("integer", "42")
		})
	}
}
