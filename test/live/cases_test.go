package live

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/check"
	"hotpatch/internal/diff"
	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// ask is one question and what the target answers in each build. The answer of
// a target whose data goes on is worked out from what it was asked before.
type ask struct {
	cmd, old, fixed string
	live            func() func(fixed bool) string // one for each process
}

// A testCase is a source with what must be found in it and what it answers.
type testCase struct {
	name           string
	source         string
	forms          []form // default: everywhere
	flags          []string
	changed, added string // functions, sorted
	has            string // sections that the fixed build must have for the case to be what it says
	asks           []ask
	finder         bool        // libc has to find new code after a rollback, too: objects may lead to it
	denied         diff.Code   // by the builder; the asks are for reading then
	refused        engine.Code // by the engine
	names          string      // what the refusal has to name
}

// TestCases takes each target from old to fixed, back, and to fixed again. The
// patch is made from the stripped builds and from those with symbols, and has to
// be of the same functions; what is loaded is not stripped.
func TestCases(t *testing.T) {
	for _, c := range slices.Concat(cCases, shapeCases, cxxCases) {
		forms := c.forms
		if forms == nil {
			forms = everywhere
		}
		for _, f := range forms {
			t.Run(c.name+"/"+string(f), func(t *testing.T) {
				t.Parallel()
				c.run(t, f)
			})
		}
	}
}

func (c *testCase) run(t *testing.T, f form) {
	m := build(t, c.source, f, c.flags...)
	if c.denied != "" {
		b := m.compare(t)
		if b.Verdict != diff.Refused || b.Patch != nil || !slices.ContainsFunc(b.Reasons, func(r diff.Reason) bool { return r.Code == c.denied }) {
			t.Errorf("%s %v, want refused because of %s", b.Verdict, b.Reasons, c.denied)
		}
		return
	}
	for _, s := range strings.Fields(c.has) {
		if !hasSection(t, m.fixed, s) {
			t.Errorf("the fixed build has no %s", s)
		}
	}
	p := c.patch(t, m)
	if named := m.named(); f == loaded {
		p = c.patch(t, named)
		m.unstrip(t)
	} else {
		c.patch(t, named)
	}
	g := m.start(t)
	before := readText(t, g.pid())
	if c.finder {
		before = before.without(t, g.pid(), "/libc.so.6")
	}
	e := newEngine(t, engine.Options{})
	lives := make([]func(bool) string, len(c.asks))
	for i, a := range c.asks {
		if a.live != nil {
			lives[i] = a.live()
		}
	}
	look := func(when string, fixed bool) {
		t.Helper()
		for range 2 {
			for i, a := range c.asks {
				want := a.old
				switch {
				case lives[i] != nil:
					want = lives[i](fixed)
				case fixed:
					want = a.fixed
				}
				if got := g.ask(a.cmd); got != want {
					t.Errorf("%s, %s: got %q, want %q", when, a.cmd, got, want)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	look("before", false)
	if c.refused != "" {
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, engine.Refused)
		if r.Reasons[0].Code != c.refused || !strings.Contains(r.Reasons[0].Error(), c.names) {
			t.Errorf("reasons %+v, want %s that names %s", r.Reasons, c.refused, c.names)
		}
		sameText(t, g.pid(), before)
		look("after the refusal", false)
		return
	}
	for _, when := range []string{"after apply", "after the second apply"} {
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, engine.Patched)
		if r.Functions != len(p.Steers) || !r.Verified {
			t.Errorf("%d functions, verified %t; want %d", r.Functions, r.Verified, len(p.Steers))
		}
		look(when, true)
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Already)
		wantState(t, e.Verify(g.pid()), engine.Verified)
		look("after applying what is there", true)
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		sameText(t, g.pid(), before)
		look("after rollback", false)
	}
	wantState(t, e.Remove(g.pid(), nil), engine.Already)
}

// patch makes the patch, which has to be of the right functions and to be proved.
func (c *testCase) patch(t *testing.T, m module) *patch.Patch {
	t.Helper()
	p := m.patch(t)
	for _, w := range []struct {
		kind patch.Change
		want string
	}{{patch.Changed, c.changed}, {patch.Added, c.added}} {
		if d := cmp.Diff(strings.Fields(w.want), m.functions(t, p, w.kind)); d != "" {
			t.Errorf("functions of %s (-want +got):\n%s", m.fixed, d)
		}
	}
	old, fixed := m.read(t)
	r, err := check.Patch(p, old, fixed)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Faults {
		t.Errorf("the check of %s finds %v", m.fixed, f)
	}
	return p
}

// counter answers with a number that grows by another amount in each build.
func counter(start, old, fixed int, format func(n int) string) func() func(bool) string {
	return func() func(bool) string {
		n := start
		return func(isFixed bool) string {
			if isFixed {
				n += fixed
			} else {
				n += old
			}
			return format(n)
		}
	}
}

func plain(n int) string { return strconv.Itoa(n) }
