package live

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestSharedMemory: nobody stops the threads of another process in the same
// memory, so the change is refused as long as it lives; a child of vfork is
// waited for.
func TestSharedMemory(t *testing.T) {
	m := build(t, "shared.c", program)
	p := m.patch(t)
	t.Run("clone", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		before := readText(t, g.pid())
		e := newEngine(t, engine.Options{Deadline: 500 * time.Millisecond})
		child := g.number("clone")
		t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
		refusal(t, g, before, e.Apply(g.pid(), []*patch.Patch{p}), engine.SharedMemory, fmt.Sprint(child))
		g.want("end", "1")
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("value", "200")

		child = g.number("clone")
		patched := readText(t, g.pid())
		refusal(t, g, patched, e.Remove(g.pid(), nil), engine.SharedMemory, fmt.Sprint(child))
		g.want("end", "1")
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		g.want("value", "10")
	})
	t.Run("vfork", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		e := newEngine(t, engine.Options{})
		g.want("vfork", "1")
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("value", "200")
	})
}

// TestMainEnded: a process whose main thread has ended is refused, and has not
// exited for that.
func TestMainEnded(t *testing.T) {
	t.Parallel()
	m := build(t, "shared.c", program)
	p := m.patch(t)
	g := start(t, "", m.old, "end")
	time.Sleep(50 * time.Millisecond)
	e := newEngine(t, engine.Options{})
	for _, r := range []engine.Result{e.Apply(g.pid(), []*patch.Patch{p}), e.Remove(g.pid(), nil), e.Verify(g.pid())} {
		wantState(t, r, engine.Refused)
		if len(r.Reasons) != 1 || r.Reasons[0].Code != engine.MainEnded {
			t.Errorf("reasons %+v, want %s", r.Reasons, engine.MainEnded)
		}
	}
	g.want("value", "10")
	g.in.Close()
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("the process did not end as usual: %v", err)
	}
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Exited)
}
