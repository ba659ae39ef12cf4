package live

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"hotpatch/internal/diff"
	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestPlacedApart patches a program at a fixed address whose relocations are in
// a separate file of debug information alone, and refuses it without that file.
func TestPlacedApart(t *testing.T) {
	t.Parallel()
	m := build(t, "args.c", placed)
	bare := func(path string, link bool) {
		debug := path + ".debug"
		cmds := [][]string{{"objcopy", "--only-keep-debug", path + symbolExt, debug}, {"strip", "-o", path, path + symbolExt}}
		if link {
			cmds = append(cmds, []string{"objcopy", "--add-gnu-debuglink=" + debug, path})
		}
		for _, c := range cmds {
			if b, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("run %v: %v\n%s", c, err, b)
			}
		}
	}
	bare(m.old, false)
	bare(m.fixed, false)
	b := m.compare(t)
	if !slices.ContainsFunc(b.Reasons, func(r diff.Reason) bool { return r.Code == diff.NotPositionIndependent }) {
		t.Fatalf("without relocations: %s %v, want %s", b.Verdict, b.Reasons, diff.NotPositionIndependent)
	}
	bare(m.old, true)
	bare(m.fixed, true)
	p := m.patch(t)
	g := m.start(t)
	before := readText(t, g.pid())
	e := newEngine(t, engine.Options{Store: filepath.Join(t.TempDir(), "store")})
	g.want("integer", "42")
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	g.want("integer", "402")
	g.want("nine", "1000 1016")
	wantState(t, e.Remove(g.pid(), nil), engine.Removed)
	g.want("integer", "42")
	sameText(t, g.pid(), before)
}
