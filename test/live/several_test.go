package live

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestTwoModules: two libraries in one transaction; the fixed build of one
// imports what only the fixed build of the other exports.
func TestTwoModules(t *testing.T) {
	t.Parallel()
	lower := build(t, "lower.c", linked, "-Wl,-soname,liblower.so")
	for _, f := range []*string{&lower.old, &lower.fixed} {
		to := filepath.Join(filepath.Dir(*f), "liblower.so")
		for _, ext := range []string{"", ".sym"} {
			if err := os.Rename(*f+ext, to+ext); err != nil {
				t.Fatal(err)
			}
		}
		*f = to
	}
	upper := build(t, "upper.c", linked, "-Wl,--allow-shlib-undefined", lower.fixed)
	ps := []*patch.Patch{upper.patch(t), lower.patch(t)}
	run := func(t *testing.T) *target {
		return start(t, "LD_LIBRARY_PATH="+filepath.Dir(upper.old)+":"+filepath.Dir(lower.old), host(t, linked))
	}
	const was, is = "11 11", "5021 21"
	t.Run("both", func(t *testing.T) {
		g := run(t)
		before := readText(t, g.pid())
		g.want("ask", was)
		e := newEngine(t, engine.Options{})
		for _, order := range [][]*patch.Patch{ps, {ps[1], ps[0]}} {
			r := e.Apply(g.pid(), order)
			wantState(t, r, engine.Patched)
			if len(r.Patches) != 2 {
				t.Errorf("patches %v, want two", r.Patches)
			}
			g.want("ask", is)
			wantState(t, e.Verify(g.pid()), engine.Verified)
			wantState(t, e.Apply(g.pid(), order), engine.Already)
			wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			sameText(t, g.pid(), before)
			g.want("ask", was)
		}
	})
	t.Run("one-after-the-other", func(t *testing.T) {
		g := run(t)
		e := newEngine(t, engine.Options{})
		wantState(t, e.Apply(g.pid(), ps[1:]), engine.Patched)
		g.want("ask", "21 21")
		wantState(t, e.Apply(g.pid(), ps[:1]), engine.Patched)
		g.want("ask", is)
		both := readText(t, g.pid())
		refusal(t, g, both, e.Remove(g.pid(), []patch.ID{ps[1].ID}), engine.Conflict, ps[0].ID.Short())
		g.want("ask", is)
		wantState(t, e.Remove(g.pid(), []patch.ID{ps[0].ID}), engine.Removed)
		g.want("ask", "21 21")
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
		g.want("ask", was)
	})
	t.Run("one-lacks-the-other", func(t *testing.T) {
		g := run(t)
		before := readText(t, g.pid())
		r := newEngine(t, engine.Options{}).Apply(g.pid(), ps[:1])
		refusal(t, g, before, r, engine.NoImport, "lower_checked")
		g.want("ask", was)
	})
	t.Run("all-or-nothing", func(t *testing.T) {
		g := run(t)
		mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", g.pid()), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		at := int64(bias(t, g.pid(), upper.old) + uint64(ps[0].Steers[0].At))
		if _, err := mem.WriteAt([]byte{0xcc}, at); err != nil {
			t.Fatal(err)
		}
		hooked := readText(t, g.pid())
		for _, order := range [][]*patch.Patch{ps, {ps[1], ps[0]}} {
			refusal(t, g, hooked, newEngine(t, engine.Options{}).Apply(g.pid(), order), engine.EntryChanged)
		}
	})
}

// TestForks: children of a server carry what it had when they were born.
func TestForks(t *testing.T) {
	t.Parallel()
	m := build(t, "forker.c", program)
	p := m.patch(t)
	g := m.start(t)
	path := filepath.Join(t.TempDir(), "s")
	g.want("serve "+path, "listening")
	children := 0
	connect := func() func(want int) int {
		t.Helper()
		c, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() }) // the child ends then
		children++
		n, child := children, g.number("serve")
		r := bufio.NewReader(c)
		return func(factor int) int {
			t.Helper()
			if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("3")); err != nil {
				t.Fatal(err)
			}
			s, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%d %d", 3*factor+n, child); strings.TrimSpace(s) != want {
				t.Errorf("child %d answers %q, want %q", n, strings.TrimSpace(s), want)
			}
			return child
		}
	}
	const old, fixed = 2, 100
	before := readText(t, g.pid())
	early := connect()
	early(old)
	e := newEngine(t, engine.Options{})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	late := connect()
	late(fixed)
	pid := early(old)
	wantState(t, e.Verify(pid), engine.Already) // there is nothing in it
	sameText(t, pid, before)
	// The child that inherited the patch is known as patched, and can be rolled back alone.
	pid = late(fixed)
	wantState(t, e.Verify(pid), engine.Verified)
	wantState(t, e.Apply(pid, []*patch.Patch{p}), engine.Already)
	other := connect()
	other(fixed)
	wantState(t, e.Remove(pid, nil), engine.Removed)
	late(old)
	sameText(t, pid, before)
	other(fixed)
	// The parent rolled back: who is born then is old, who was born before stays.
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	last := connect()
	last(old)
	other(fixed)
	wantState(t, e.Remove(other(fixed), nil), engine.Removed)
	other(old)
	// The early child gets the patch on its own.
	wantState(t, e.Apply(early(old), []*patch.Patch{p}), engine.Patched)
	early(fixed)
}

// TestLostRecord: what a rollback leaves does not disturb who has no record of it.
func TestLostRecord(t *testing.T) {
	t.Parallel()
	m := build(t, "data.c", program)
	p := m.patch(t)
	g := m.start(t)
	for n := range 3 {
		e := newEngine(t, engine.Options{}) // with an empty record
		wantState(t, e.Verify(g.pid()), engine.Already)
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
		g.want("note 5", fmt.Sprintf("%d n%d %d 5", 1010+10*n, n+1, 10*(n+1)))
		wantState(t, e.Verify(g.pid()), engine.Verified)
		wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	}
}
