package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// refusal checks that a refused patch has changed nothing and says why.
func refusal(t *testing.T, g *target, before text, r engine.Result, code engine.Code, names ...string) {
	t.Helper()
	wantState(t, r, engine.Refused)
	if len(r.Reasons) != 1 || r.Reasons[0].Code != code {
		t.Fatalf("reasons %+v, want one %s", r.Reasons, code)
	}
	for _, n := range names {
		if !strings.Contains(r.Reasons[0].Error(), n) {
			t.Errorf("reason %q does not name %q", r.Reasons[0].Error(), n)
		}
	}
	sameText(t, g.pid(), before)
}

// TestOtherBuild: a patch for another build is not for this process.
func TestOtherBuild(t *testing.T) {
	for _, f := range []form{program, linked} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			m := build(t, "data.c", f)
			p := build(t, "data.c", f, "-Wl,--build-id=0x0102030405060708").patch(t)
			g := m.start(t)
			before := readText(t, g.pid())
			r := newEngine(t, engine.Options{}).Apply(g.pid(), []*patch.Patch{p})
			refusal(t, g, before, r, engine.NoModule, filepath.Base(m.old))
			g.want("note 5", "1005 n1 1 5")
		})
	}
}

// TestHook: somebody else's jump or breakpoint at an entry is left alone.
func TestHook(t *testing.T) {
	t.Parallel()
	m := build(t, "args.c", program)
	p := m.patch(t)
	for name, hook := range map[string][]byte{"jump": {0xe9, 0, 0, 0, 0}, "breakpoint": {0xcc}} {
		t.Run(name, func(t *testing.T) {
			g := m.start(t)
			clean := readText(t, g.pid())
			e := newEngine(t, engine.Options{})
			mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", g.pid()), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer mem.Close()
			s := p.Steers[len(p.Steers)-1]
			at := int64(bias(t, g.pid(), m.old) + uint64(s.At))
			was := make([]byte, len(hook))
			if _, err := mem.ReadAt(was, at); err != nil {
				t.Fatal(err)
			}
			if _, err := mem.WriteAt(hook, at); err != nil {
				t.Fatal(err)
			}
			hooked := readText(t, g.pid())
			refusal(t, g, hooked, e.Apply(g.pid(), []*patch.Patch{p}), engine.EntryChanged, p.Old[len(p.Old)-1].Name, m.name())
			if _, err := mem.WriteAt(was, at); err != nil {
				t.Fatal(err)
			}
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			g.want("integer", "402")

			// A hook over our jump is seen by verify and by a rollback.
			if _, err := mem.WriteAt([]byte{0xcc}, at); err != nil {
				t.Fatal(err)
			}
			r := e.Verify(g.pid())
			wantState(t, r, engine.Tampered)
			if len(r.Reasons) != 1 || r.Reasons[0].Function+r.Reasons[0].Detail == "" {
				t.Errorf("reasons %+v", r.Reasons)
			}
			if r := e.Remove(g.pid(), nil); r.State == engine.Removed {
				t.Errorf("removed in spite of the hook: %+v", r)
			}
			if _, err := mem.WriteAt([]byte{0xe9}, at); err != nil {
				t.Fatal(err)
			}
			wantState(t, e.Verify(g.pid()), engine.Verified)
			g.want("integer", "402")
			wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			sameText(t, g.pid(), clean)
			g.want("integer", "42")
		})
	}
}

func (m module) name() string { return filepath.Base(m.old) }

// bias is where a file is mapped.
func bias(t *testing.T, pid int, path string) uint64 {
	t.Helper()
	for line := range strings.Lines(mappings(t, pid)) {
		var lo uint64
		if strings.HasSuffix(strings.TrimSpace(line), path) {
			if _, err := fmt.Sscanf(line, "%x", &lo); err != nil {
				t.Fatal(err)
			}
			return lo
		}
	}
	t.Fatalf("%s is not mapped", path)
	return 0
}

// TestTraced: a process under another tracer is refused, the tracer named.
func TestTraced(t *testing.T) {
	t.Parallel()
	m := build(t, "data.c", program)
	p := m.patch(t)
	g := m.start(t)
	before := readText(t, g.pid())
	e := newEngine(t, engine.Options{Deadline: time.Second})
	tracer := compile(t, filepath.Join(t.TempDir(), "tracer"), "testdata/tracer.c")
	tr := start(t, "", tracer, fmt.Sprint(g.pid()))
	refusal(t, g, before, e.Apply(g.pid(), []*patch.Patch{p}), engine.TracedAlready, "tracer", fmt.Sprint(tr.pid()))
	g.want("note 5", "1005 n1 1 5")
	tr.in.Close()
	if err := tr.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	g.want("note 5", "1015 n2 11 5")
}

// TestExits: a process that ends meanwhile, or has ended, is no error.
func TestExits(t *testing.T) {
	m := build(t, "data.c", program)
	p := m.patch(t)
	for _, when := range []string{"match", "place", "record intent", "map", "write", "commit", "verify", "clear out"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			hit := false
			e := watched(t, engine.Options{}, func(ev engine.Event) {
				if ev.State == when && !hit {
					hit = true
					_ = g.cmd.Process.Signal(syscall.SIGKILL)
					_ = g.cmd.Wait()
				}
			})
			r := e.Apply(g.pid(), []*patch.Patch{p})
			if when == "clear out" {
				wantState(t, r, engine.Patched)
				r = e.Remove(g.pid(), nil)
			}
			if !hit {
				t.Fatalf("the engine never came to %q", when)
			}
			wantState(t, r, engine.Exited)
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Exited)
			wantState(t, e.Remove(g.pid(), nil), engine.Exited)
			wantState(t, e.Verify(g.pid()), engine.Exited)
		})
	}
	t.Run("zombie", func(t *testing.T) {
		t.Parallel()
		g := m.start(t)
		if err := g.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		wantState(t, newEngine(t, engine.Options{}).Apply(g.pid(), []*patch.Patch{p}), engine.Exited)
	})
	t.Run("while-many-exit", func(t *testing.T) {
		t.Parallel()
		for range 10 {
			g := m.start(t)
			done := make(chan engine.Result)
			go func() { done <- newEngine(t, engine.Options{}).Apply(g.pid(), []*patch.Patch{p}) }()
			g.in.Close() // it ends by itself
			if r := <-done; r.State != engine.Exited && r.State != engine.Patched {
				t.Errorf("state %s: %+v", r.State, r.Reasons)
			}
			if err := g.cmd.Wait(); err != nil {
				t.Errorf("the process did not end as usual: %v", err)
			}
		}
	})
}
