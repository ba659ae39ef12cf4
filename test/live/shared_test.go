package live

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// beside starts a process beside the program, in the same memory.
func (g *target) beside(flags int) int {
	g.t.Helper()
	child := g.number(fmt.Sprint("clone ", flags))
	g.t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
	return child
}

func wantSharing(t *testing.T, r engine.Result, pids ...int) {
	t.Helper()
	var got []int
	for _, id := range r.Sharing {
		got = append(got, id.Pid)
	}
	slices.Sort(got)
	slices.Sort(pids)
	if !slices.Equal(got, pids) {
		t.Errorf("the memory is said to be shared by %v, want %v", got, pids)
	}
}

// status is the patch that a process has, as its status says.
func status(t *testing.T, e *engine.Engine, pid int) string {
	t.Helper()
	rec, err := e.Status(pid)
	if err != nil {
		t.Fatalf("status of %d: %v", pid, err)
	}
	if rec == nil || len(rec.Units) == 0 {
		return ""
	}
	return string(rec.Units[0].Patch)
}

// TestSharedMemory: processes that share memory are one target. A patch is in
// all of them, and goes by any of them.
func TestSharedMemory(t *testing.T) {
	m := build(t, "shared.c", program)
	p := m.patch(t)
	for name, flags := range map[string]int{
		"clone": 0, "files": syscall.CLONE_FILES, "handlers": syscall.CLONE_FILES | syscall.CLONE_SIGHAND | syscall.CLONE_FS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			e := newEngine(t, engine.Options{Retire: name == "files"})
			before := readText(t, g.pid())
			child, other := g.beside(flags), g.beside(flags)
			r := e.Apply(g.pid(), []*patch.Patch{p})
			wantState(t, r, engine.Patched)
			wantSharing(t, r, g.pid(), child, other)
			for _, who := range []string{"value", "beside 0", "beside 1"} {
				g.want(who, "200")
			}
			late := g.beside(flags) // is patched from its beginning
			for _, pid := range []int{g.pid(), child, other, late} {
				if got := status(t, e, pid); got != string(p.ID) {
					t.Errorf("process %d: the status says %q", pid, got)
				}
				wantState(t, e.Verify(pid), engine.Verified)
				wantState(t, e.Apply(pid, []*patch.Patch{p}), engine.Already)
			}
			r = e.Remove(late, nil)
			wantState(t, r, engine.Removed)
			wantSharing(t, r, g.pid(), child, other, late)
			for _, who := range []string{"value", "beside 0", "beside 1", "beside 2"} {
				g.want(who, "10")
			}
			sameText(t, g.pid(), before)
			for _, pid := range []int{g.pid(), child, other, late} {
				if got := status(t, e, pid); got != "" {
					t.Errorf("process %d: the status says %q", pid, got)
				}
				wantState(t, e.Verify(pid), engine.Already)
			}

			// The one by which it was patched ends; the others have the patch.
			wantState(t, e.Apply(other, []*patch.Patch{p}), engine.Patched)
			g.want("end 1", "1")
			wantState(t, e.Verify(other), engine.Exited)
			wantState(t, e.Verify(g.pid()), engine.Verified)
			if err := e.Store().Sweep(); err != nil {
				t.Fatal(err)
			}
			if g.say("leave 0"); g.line() != "ready" {
				t.Error("the process beside does not go on")
			}
			_, _ = g.cmd.Process.Wait()
			if err := e.Store().Sweep(); err != nil {
				t.Fatal(err)
			}
			g.want("value", "200")
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Exited)
			for _, pid := range []int{child, late} {
				if got := status(t, e, pid); got != string(p.ID) {
					t.Errorf("process %d: the status says %q", pid, got)
				}
			}
			wantState(t, e.Verify(late), engine.Verified)
			r = e.Remove(late, nil)
			wantState(t, r, engine.Removed)
			wantSharing(t, r, child, late)
			g.want("value", "10")
			g.want("beside 2", "10")
			sameText(t, child, before)
		})
	}
	t.Run("inside", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		e := newEngine(t, engine.Options{Deadline: 500 * time.Millisecond, Level: engine.Strict})
		before := readText(t, g.pid())
		child := g.beside(0)
		inside := func(r engine.Result) {
			t.Helper()
			wantState(t, r, engine.Blocked)
			if len(r.Reasons) != 1 || r.Reasons[0].Code != engine.ThreadInside || r.Reasons[0].Pid != child || r.Reasons[0].Tid != child {
				t.Errorf("reasons %+v, want process %d inside", r.Reasons, child)
			}
			for _, pid := range []int{g.pid(), child} {
				if b := e.Store().Blockers(idOf(t, pid)); len(b) != 1 || b[0].Pid != child {
					t.Errorf("process %d is noted as blocked by %+v", pid, b)
				}
			}
		}
		g.want("park 0", fmt.Sprint(child))
		inside(e.Apply(g.pid(), []*patch.Patch{p}))
		sameText(t, g.pid(), before)
		g.want("release 0", "1")
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		patched := readText(t, g.pid())
		g.want("park 0", fmt.Sprint(child))
		inside(e.Remove(g.pid(), nil))
		sameText(t, g.pid(), patched)
		g.want("release 0", "1")
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		sameText(t, g.pid(), before)
	})
	t.Run("traced", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		e := newEngine(t, engine.Options{Deadline: time.Second})
		before, maps := readText(t, g.pid()), ""
		child := g.beside(0)
		maps = mappings(t, g.pid())
		tracer := compile(t, filepath.Join(t.TempDir(), "tracer"), "testdata/tracer.c")
		tr := start(t, "", tracer, fmt.Sprint(child))
		refusal(t, g, before, e.Apply(g.pid(), []*patch.Patch{p}), engine.TracedAlready, fmt.Sprint(child), "tracer", fmt.Sprint(tr.pid()))
		if now := mappings(t, g.pid()); now != maps {
			t.Errorf("mappings changed from\n%s\nto\n%s", maps, now)
		}
		tr.in.Close()
		if err := tr.cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("beside 0", "200")
	})
	t.Run("vfork", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		e := newEngine(t, engine.Options{})
		g.want("vfork 500", "1")
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("value", "200")
	})
	t.Run("long-vfork", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		before := readText(t, g.pid())
		e := newEngine(t, engine.Options{Deadline: 100 * time.Millisecond})
		g.want("vfork 5000", "1")
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, engine.Blocked)
		if len(r.Reasons) != 1 || r.Reasons[0].Code != engine.ThreadBusy || r.Reasons[0].Pid != g.pid() || !strings.Contains(r.Reasons[0].Detail, "vfork") {
			t.Errorf("reasons %+v, want %s of process %d", r.Reasons, engine.ThreadBusy, g.pid())
		}
		sameText(t, g.pid(), before)
		g.want("value", "10")
	})
	t.Run("spawns", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		e := newEngine(t, engine.Options{Budget: 10 * time.Millisecond})
		before := readText(t, g.pid())
		g.want("spawn", "1")
		for range 50 {
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			g.want("value", "200")
			wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			g.want("value", "10")
		}
		g.want("calm", "1 0")
		sameText(t, g.pid(), before)
	})
}

// TestSharedExec: of two processes with the same memory one executes another
// program at each step. It is let go, and the other has the patch as it should.
func TestSharedExec(t *testing.T) {
	m := build(t, "shared.c", program)
	p := m.patch(t)
	for _, step := range steps {
		t.Run("beside/"+step, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			before := readText(t, g.pid())
			child := g.beside(0)
			e, r := once(t, g, p, step, func() { g.want("exec 0", "1") })
			if removal := strings.HasPrefix(step, "remove "); removal {
				wantState(t, r, engine.Removed)
			} else {
				wantState(t, r, engine.Patched)
				wantSharing(t, r)
				g.want("value", "200")
				wantState(t, e.Verify(g.pid()), engine.Verified)
				wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			}
			wantState(t, e.Verify(child), engine.Already)
			if err := syscall.Kill(child, 0); err != nil {
				t.Errorf("the other program: %v", err)
			}
			g.want("value", "10")
			sameText(t, g.pid(), before)
		})
		t.Run("asked/"+step, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			before := readText(t, g.pid())
			child := g.beside(0)
			e, r := once(t, g, p, step, func() {
				if g.say("become 0"); g.line() != "ready" {
					t.Error("the process beside does not go on")
				}
				for end := time.Now().Add(5 * time.Second); process.NameOf(g.pid()) != "sleep" && time.Now().Before(end); {
					time.Sleep(time.Millisecond)
				}
			})
			wantState(t, r, engine.Exited)
			wantState(t, e.Verify(g.pid()), engine.Already)
			want := map[string]string{string(p.ID): "200", "": "10"}[status(t, e, child)]
			g.want("value", want)
			if want == "10" {
				wantState(t, e.Apply(child, []*patch.Patch{p}), engine.Patched)
			}
			wantState(t, e.Verify(child), engine.Verified)
			wantState(t, e.Remove(child, nil), engine.Removed)
			g.want("value", "10")
			sameText(t, child, before)
			if process.NameOf(g.pid()) != "sleep" {
				t.Error("the other program does not run")
			}
		})
	}
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

func idOf(t *testing.T, pid int) process.ID {
	t.Helper()
	p, err := process.Open(pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	return p.ID
}
