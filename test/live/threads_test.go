package live

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// what next() of threads.c returns, for one worker and as lowest and highest
const (
	nextOld   = "110"
	nextFixed = "220"
)

// TestThreads patches programs whose threads wait in the kernel or do not.
func TestThreads(t *testing.T) {
	modules := make(map[form]func() (module, *patch.Patch))
	for _, f := range everywhere {
		m := build(t, "threads.c", f)
		p := m.patch(t)
		modules[f] = func() (module, *patch.Patch) { return m, p }
	}
	type variant struct {
		f       form
		workers int // besides the main thread
		kind    string
	}
	var all []variant
	for _, kind := range []string{"busy", "read", "futex", "epoll", "nanosleep", "mixed"} {
		for _, n := range []int{7, 63} {
			all = append(all, variant{program, n, kind})
		}
	}
	for _, f := range []form{linked, loaded} {
		for _, n := range []int{0, 7, 63} {
			all = append(all, variant{f, n, "mixed"})
		}
		all = append(all, variant{f, 7, "busy"})
	}
	all = append(all, variant{program, 0, "blocked"})
	for _, v := range all {
		t.Run(fmt.Sprintf("%d-%s/%s", v.workers+1, v.kind, v.f), func(t *testing.T) {
			t.Parallel()
			m, p := modules[v.f]()
			g := m.start(t)
			g.want(fmt.Sprintf("start %d %s", v.workers, v.kind), fmt.Sprint(v.workers))
			look := func(when, one string) {
				t.Helper()
				want := one + " " + one
				if v.workers == 0 {
					want = "1073741824 0"
				}
				if got := g.ask("value"); got != one {
					t.Errorf("%s: the main thread got %s, want %s", when, got, one)
				}
				if got := g.ask("rounds"); got != want {
					t.Errorf("%s: the threads got %s, want %s", when, got, want)
				}
				if got := g.ask("bad"); got != "0" {
					t.Errorf("%s: %s waits were broken off", when, got)
				}
			}
			before := readText(t, g.pid())
			e := newEngine(t, engine.Options{Level: engine.Strict})
			look("before", nextOld)
			for range 2 {
				wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
				look("after apply", nextFixed)
				wantState(t, e.Verify(g.pid()), engine.Verified)
				wantState(t, e.Remove(g.pid(), nil), engine.Removed)
				sameText(t, g.pid(), before)
				look("after rollback", nextOld)
			}
		})
	}
}

// TestBusyMain patches the one thread of a program while it runs.
func TestBusyMain(t *testing.T) {
	t.Parallel()
	m := build(t, "threads.c", program)
	p := m.patch(t)
	g := m.start(t)
	before := readText(t, g.pid())
	e := newEngine(t, engine.Options{Level: engine.Strict})
	g.say("spin")
	time.Sleep(100 * time.Millisecond)
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	if got, want := g.line(), nextOld+" "+nextFixed+" 1"; got != want {
		t.Errorf("while it was patched the program saw %s, want %s", got, want)
	}
	g.say("spin")
	time.Sleep(100 * time.Millisecond)
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	if got, want := g.line(), nextFixed+" "+nextOld+" 1"; got != want {
		t.Errorf("while it was rolled back the program saw %s, want %s", got, want)
	}
	sameText(t, g.pid(), before)
}

// TestStorm patches while threads are born and die.
func TestStorm(t *testing.T) {
	t.Parallel()
	m := build(t, "storm.c", program)
	p := m.patch(t)
	g := m.start(t)
	before := readText(t, g.pid())
	g.want("start", "started")
	e := newEngine(t, engine.Options{Level: engine.Strict})
	g.want("seen", "1 0 0")
	for range 3 {
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("seen", "0 1 0")
		wantState(t, e.Verify(g.pid()), engine.Verified)
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		g.want("seen", "1 0 0")
		sameText(t, g.pid(), before)
	}
}

// TestSystemCalls: whatever a thread waits for, it goes on waiting, and no
// call comes back with EINTR, while signals arrive and are handled on
// alternate stacks. An application and a removal stop every thread twice each:
// alone, to see whether it is in the way, and with all others.
func TestSystemCalls(t *testing.T) {
	t.Parallel()
	m := build(t, "calls.c", program)
	p := m.patch(t)
	g := m.start(t)
	g.want("start", "23")
	g.want("early", "none")
	e := newEngine(t, engine.Options{Level: engine.Strict})
	for range 25 {
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("value", "2")
		g.want("early", "none")
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		g.want("value", "1")
		g.want("early", "none")
	}
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	sent, handled, _ := strings.Cut(g.ask("quiet"), " ")
	if n, err := strconv.Atoi(sent); err != nil || n < 50 || sent != handled {
		t.Errorf("%s signals sent, %s handled", sent, handled)
	}
	g.want("wake", "all")
}

// TestEndedBySignals: a call that a signal is to end is ended by it, also when
// the signal comes while the thread is held or makes a call for us.
func TestEndedBySignals(t *testing.T) {
	t.Parallel()
	m := build(t, "ended.c", program)
	p := m.patch(t)
	g := m.start(t)
	g.want("start", "4")
	e := newEngine(t, engine.Options{Level: engine.Strict})
	for range 25 {
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("value", "2")
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		g.want("going", "all")
	}
}

// TestSmallStack: what lies below a stack on which there is no room for a frame
// is as it was.
func TestSmallStack(t *testing.T) {
	t.Parallel()
	m := build(t, "smallstack.c", program)
	p := m.patch(t)
	g := m.start(t)
	e := newEngine(t, engine.Options{Level: engine.Strict})
	g.want("deep", "in")
	for range 3 {
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	}
	g.want("up", "0")
}

// TestPlaceTaken: the program itself maps memory where the overlay was to go,
// after the place was chosen.
func TestPlaceTaken(t *testing.T) {
	t.Parallel()
	m := build(t, "threads.c", loaded)
	p := m.patch(t)
	g := m.start(t)
	before := readText(t, g.pid())
	maps := 0
	e := watched(t, engine.Options{}, func(ev engine.Event) {
		if ev.State == "map" {
			if maps++; maps == 1 {
				g.want("start 63 read", "63") // 63 stacks
			}
		}
	})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	if maps < 2 {
		t.Errorf("no place was taken: the test shows nothing")
	}
	g.want("rounds", nextFixed+" "+nextFixed)
	wantState(t, e.Verify(g.pid()), engine.Verified)
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	sameText(t, g.pid(), before)
	g.want("rounds", nextOld+" "+nextOld)
}
