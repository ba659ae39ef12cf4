package live

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// blocker checks that a blocked transaction names the thread, and changed nothing.
func blocker(t *testing.T, g *target, r engine.Result, tid int, function string) {
	t.Helper()
	wantState(t, r, engine.Blocked)
	if len(r.Reasons) != 1 {
		t.Fatalf("%d reasons, want one: %+v", len(r.Reasons), r.Reasons)
	}
	x := r.Reasons[0]
	if x.Code != engine.ThreadInside || x.Pid != g.pid() || x.Tid != tid || x.Thread == "" || len(x.Stack) < 2 {
		t.Errorf("reason %+v, want %s with pid %d, tid %d and its stack", x, engine.ThreadInside, g.pid(), tid)
	}
	if function != "" && x.Function != function {
		t.Errorf("the function in the way is %s, want %s", x.Function, function)
	}
}

// oldName is what the patch calls a function of the unstripped build.
func (m module) oldName(t *testing.T, p *patch.Patch, symbol string) string {
	t.Helper()
	names := symbols(t, m.old)
	for _, o := range p.Old {
		if names[uint64(o.Ranges[0].Start)] == symbol {
			return o.Name
		}
	}
	t.Fatalf("%s is not among the changed functions", symbol)
	return ""
}

var inside = []struct {
	name, how, function string
	old, fixed          string // what the parked call returns
}{
	{"directly", "p", "parked", "10", "200"},
	{"deep", "d", "parked", "10", "200"},
	{"below-signal-handler", "s", "signalled", "300", "3000"},
}

// TestInside: a thread sits in a changed function. At the deadline it is
// named and nothing is changed; when it leaves in time the patch goes in. The
// same for new code and its removal.
func TestInside(t *testing.T) {
	for _, f := range everywhere {
		m := build(t, "parked.c", f, "-DTWO")
		p := m.patch(t)
		if got, want := m.functions(t, p, patch.Changed), []string{"other", "parked", "signalled"}; !slices.Equal(got, want) {
			t.Fatalf("changed functions %v, want %v", got, want)
		}
		for _, c := range inside {
			t.Run(c.name+"/"+string(f), func(t *testing.T) {
				t.Parallel()
				g := m.start(t)
				before := readText(t, g.pid())
				store := filepath.Join(t.TempDir(), "store")
				short := newEngine(t, engine.Options{Deadline: 400 * time.Millisecond, Store: store})
				trying := make(chan struct{}, 10)
				long := watched(t, engine.Options{Store: store}, func(ev engine.Event) {
					if ev.State == "commit" || ev.State == "restore" {
						trying <- struct{}{}
					}
				})
				g.want("value", "16")

				tid := g.number("park " + c.how)
				maps := mappings(t, g.pid())
				blocker(t, g, short.Apply(g.pid(), []*patch.Patch{p}), tid, m.oldName(t, p, c.function))
				sameText(t, g.pid(), before)
				if now := mappings(t, g.pid()); now != maps {
					t.Errorf("mappings changed from\n%s\nto\n%s", maps, now)
				}
				done := make(chan engine.Result)
				go func() { done <- long.Apply(g.pid(), []*patch.Patch{p}) }()
				<-trying
				time.Sleep(300 * time.Millisecond)
				g.want("release", c.old)
				r := <-done
				wantState(t, r, engine.Patched)
				if r.Tries < 2 || r.Level != engine.Strict {
					t.Errorf("patched after %d tries at level %s, want several and strict", r.Tries, r.Level)
				}
				g.want("value", "207")

				tid = g.number("park " + c.how)
				steered := readText(t, g.pid())
				blocker(t, g, short.Remove(g.pid(), nil), tid, "")
				sameText(t, g.pid(), steered)
				g.want("release", c.fixed)
				g.want("value", "207")
				wantState(t, short.Verify(g.pid()), engine.Verified)
				g.number("park " + c.how)
				go func() { done <- long.Remove(g.pid(), nil) }()
				<-trying
				time.Sleep(300 * time.Millisecond)
				g.want("release", c.fixed)
				wantState(t, <-done, engine.Removed)
				sameText(t, g.pid(), before)
				g.want("value", "16")
			})
		}
	}
}

// TestHandlerOnly: a handler on an alternate stack, with nothing changed
// below it, is in nobody's way.
func TestHandlerOnly(t *testing.T) {
	t.Parallel()
	m := build(t, "parked.c", program, "-DTWO")
	p := m.patch(t)
	g := m.start(t)
	before := readText(t, g.pid())
	e := newEngine(t, engine.Options{Level: engine.Strict, Deadline: time.Second})
	g.number("park h")
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	sameText(t, g.pid(), before)
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	g.want("release", "1")
	g.want("value", "207")
}

// TestEntryLevel: where one function is steered, old frames may finish in old
// code while new calls run new code.
func TestEntryLevel(t *testing.T) {
	t.Parallel()
	m := build(t, "data.c", program)
	if p := m.patch(t); !p.EntryAllowed {
		t.Errorf("entry is not allowed with one steered function: %s", p.EntryWhy)
	}
	two := build(t, "parked.c", program, "-DTWO")
	p := two.patch(t)
	if p.EntryAllowed {
		t.Errorf("entry is allowed with %d steered functions: %s", len(p.Steers), p.EntryWhy)
	}
	g := two.start(t)
	before := readText(t, g.pid())
	r := newEngine(t, engine.Options{Level: engine.Entry}).Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, engine.Refused)
	sameText(t, g.pid(), before)

	one := build(t, "one.c", program)
	p = one.patch(t)
	g = one.start(t)
	before = readText(t, g.pid())
	tid := g.number("park p")
	store := filepath.Join(t.TempDir(), "store")
	blocker(t, g, newEngine(t, engine.Options{Store: store, Level: engine.Strict, Deadline: 300 * time.Millisecond}).Apply(g.pid(), []*patch.Patch{p}), tid, one.oldName(t, p, "parked"))
	e := newEngine(t, engine.Options{Store: store, Level: engine.Entry})
	r = e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, engine.Patched)
	if r.Level != engine.Entry {
		t.Errorf("level %s, want entry", r.Level)
	}
	g.want("value", "200")
	g.want("release", "10")
	g.want("value", "200")
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	g.want("value", "10")
	sameText(t, g.pid(), before)

	// Auto comes to the same by itself when strict finds no moment.
	g.number("park p")
	r = newEngine(t, engine.Options{Store: store, Deadline: 300 * time.Millisecond}).Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, engine.Patched)
	if r.Level != engine.Entry {
		t.Errorf("level %s, want entry", r.Level)
	}
	g.want("value", "200")
	g.want("release", "10")
}

// TestFinderStays: the page that tells the C library of new code stays mapped
// after a rollback; when somebody changed it meanwhile, the next patch does not
// go through it.
func TestFinderStays(t *testing.T) {
	t.Parallel()
	m := build(t, "throw.cc", program)
	p := m.patch(t)
	g := m.start(t)
	e := newEngine(t, engine.Options{Level: engine.Strict})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	target, err := process.Open(g.pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	maps, err := target.Maps()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(maps, func(m process.Mapping) bool { return m.Prot&process.Exec != 0 && m.Inode == 0 && m.Path == "" })
	if i < 0 {
		t.Fatal("the finder is not mapped any more: the test shows nothing")
	}
	var was [1]byte
	if err := target.Read(maps[i].Start, was[:]); err != nil {
		t.Fatal(err)
	}
	if err := target.Write(maps[i].Start, []byte{0xcc}); err != nil {
		t.Fatal(err)
	}
	r := e.Apply(g.pid(), []*patch.Patch{p})
	if r.State == engine.Patched || !slices.ContainsFunc(r.Reasons, func(r engine.Reason) bool { return r.Code == engine.Differs }) {
		t.Fatalf("the engine says %s, %+v", r.State, r.Reasons)
	}
	g.want("throw 4", "4 1")
	if err := target.Write(maps[i].Start, was[:]); err != nil {
		t.Fatal(err)
	}
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	g.want("throw 4", "too large, says the fixed build 4 10")
}
