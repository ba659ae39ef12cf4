package live

import (
	"os"
	"path/filepath"
	"testing"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestReload: the program unloads a patched library and loads it again, the
// same or another build, which the loader maps at the same place. What is said
// of the process is then true, and the new copy can be patched.
func TestReload(t *testing.T) {
	m := build(t, "args.c", loaded)
	p := m.patch(t)
	host := compile(t, filepath.Join(t.TempDir(), "reload"), "testdata/reload.c", "-fPIE", "-pie")
	copyTo := func(t *testing.T, from, to string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to+".new", b, 0o755)
		}
		if err == nil {
			err = os.Rename(to+".new", to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, build string // that is loaded the second time, none when empty
	}{{"same", m.old}, {"fixed", m.fixed}, {"none", ""}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lib := filepath.Join(t.TempDir(), "libcase.so")
			copyTo(t, m.old, lib)
			g := start(t, "", host)
			e := newEngine(t, engine.Options{})
			g.want("open "+lib, "opened")
			g.want("integer", "42")
			at := bias(t, g.pid(), lib)
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
			g.want("integer", "402")
			g.want("close", "0")
			if c.build != "" {
				copyTo(t, c.build, lib)
				g.want("open "+lib, "opened")
				if now := bias(t, g.pid(), lib); now != at {
					t.Skipf("the loader maps the library at %#x, not at %#x again", now, at)
				}
			}
			rec, err := e.Status(g.pid())
			if err != nil || rec == nil || len(rec.Units) != 0 || rec.Left == 0 {
				t.Fatalf("status %+v, %v; want no patch and an overlay left", rec, err)
			}
			wantState(t, e.Verify(g.pid()), engine.Already)
			wantState(t, e.Remove(g.pid(), nil), engine.Already)
			switch c.build {
			case m.old:
				g.want("integer", "42")
				wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
				g.want("integer", "402")
				wantState(t, e.Verify(g.pid()), engine.Verified)
				wantState(t, e.Remove(g.pid(), nil), engine.Removed)
				g.want("integer", "42")
			case m.fixed:
				g.want("integer", "402")
				fallthrough
			default:
				r := e.Apply(g.pid(), []*patch.Patch{p})
				wantState(t, r, engine.Refused)
				if r.Reasons[0].Code != engine.NoModule {
					t.Errorf("reasons %+v, want %s", r.Reasons, engine.NoModule)
				}
			}
		})
	}
}
