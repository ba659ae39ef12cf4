package live

import (
	"testing"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestSleepingCoroutine rolls back while a stack that no thread is on holds a
// frame of the new code: the code stays for it, and only then.
func TestSleepingCoroutine(t *testing.T) {
	m := build(t, "coroutine.c", program)
	p := m.patch(t)
	for _, where := range []string{"heap", "static"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			g.want("make "+where, "1")
			before := readText(t, g.pid())
			e := newEngine(t, engine.Options{Level: engine.Strict})

			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			r := e.Remove(g.pid(), nil)
			wantState(t, r, engine.Removed)
			if r.Left != 0 {
				t.Errorf("%d bytes stay, although nothing leads there", r.Left)
			}

			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			g.want("sleep", "1")
			r = e.Remove(g.pid(), nil)
			wantState(t, r, engine.Removed)
			if r.Left == 0 {
				t.Error("nothing stays, although a coroutine is to return there")
			}
			sameText(t, g.pid(), before)
			g.want("wake", "2404")
			g.want("sleep", "1")
			g.want("wake", "2022")
		})
	}
}
