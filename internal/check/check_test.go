package check_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/check"
	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// pair is two builds and the patch between them.
type pair struct {
	name       string
	old, fixed []byte
	patch      []byte             // encoded
	ms         [2]*module.Module  // as the builder reads them
	as         [2]module.Identity // who the two builds are, unless empty
}

func (p *pair) read(t testing.TB) *patch.Patch {
	t.Helper()
	q, err := patch.Read(p.patch)
	if err != nil {
		t.Fatal(err)
	}
	if p.as[0].Digest != "" {
		q.Baseline, q.Fixed = p.as[0], p.as[1] // strip writes another ELF header
	}
	return q
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// encode builds the patch between two builds, nil when there is none.
func encode(t testing.TB, o, n *module.Module) []byte {
	t.Helper()
	r, err := diff.Compare(o, n)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := patch.Build(r, "test")
	if err != nil {
		t.Fatal(err)
	}
	if p == nil {
		return nil
	}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pairs compiles a case and builds its patches, from builds with names and
// from the same ones without.
func pairs(t testing.TB, c buildtest.Case) []pair {
	t.Helper()
	var out []pair
	o := c.Compile(t, "")
	for _, v := range c.Variants {
		if v.Want[0] != "patchable" {
			continue
		}
		n := c.Compile(t, v.Macro)
		stripped := func(b buildtest.Build) string { return filepath.Join(filepath.Dir(b.Path), "stripped") }
		for _, p := range []pair{
			{c.Name + " " + v.Macro + " named", readFile(t, o.Path), readFile(t, n.Path), encode(t, o.Full, n.Full), [2]*module.Module{o.Full, n.Full}, [2]module.Identity{}},
			{c.Name + " " + v.Macro + " stripped", readFile(t, stripped(o)), readFile(t, stripped(n)), encode(t, o.Stripped, n.Stripped), [2]*module.Module{o.Stripped, n.Stripped}, [2]module.Identity{}},
			{c.Name + " " + v.Macro + " stripped, checked by name", readFile(t, o.Path), readFile(t, n.Path), encode(t, o.Stripped, n.Stripped), [2]*module.Module{o.Stripped, n.Stripped}, [2]module.Identity{o.Full.Identity, n.Full.Identity}},
		} {
			if p.patch == nil {
				t.Fatalf("%s: no patch", p.name)
			}
			out = append(out, p)
		}
	}
	return out
}

// TestPatchesHold proves the patch of every case.
func TestPatchesHold(t *testing.T) {
	for _, dir := range []string{"testdata", "../diff/testdata"} {
		for _, c := range buildtest.Cases(t, dir) {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				for _, p := range pairs(t, c) {
					r, err := check.Patch(p.read(t), p.old, p.fixed)
					if err != nil {
						t.Fatalf("%s: %v", p.name, err)
					}
					for _, f := range r.Faults {
						t.Errorf("%s: %v", p.name, f)
					}
					for _, f := range r.Unproved {
						t.Logf("%s: not proved: %v", p.name, f)
					}
					t.Logf("%s: %+v", p.name, r.Proved)
				}
			})
		}
	}
}

// TestSeededFaults spoils every patch in every way that the seeder knows, one
// at a time: all have to be found, and by looking, since a patch in memory has
// no digest.
func TestSeededFaults(t *testing.T) {
	type tally struct{ seeded, found int }
	var mu sync.Mutex
	kinds := make(map[string]*tally)
	t.Run("programs", func(t *testing.T) {
		for _, dir := range []string{"testdata", "../diff/testdata"} {
			for _, c := range buildtest.Cases(t, dir) {
				t.Run(c.Name, func(t *testing.T) {
					t.Parallel()
					for i, p := range pairs(t, c) {
						s := seeder{TB: t, old: p.ms[0], fixed: p.ms[1], patch: p.read(t), rand: rand.New(rand.NewPCG(1, uint64(i)))}
						for k, x := range s.all() {
							if dir != "testdata" && (k+i)%4 > 0 {
								continue // a part of them is enough there
							}
							q := p.read(t)
							x.spoil(q)
							r, err := check.Patch(q, p.old, p.fixed)
							found := err == nil && len(r.Faults) > 0
							if !found {
								t.Errorf("%s: %s: %s was not found (%v)", p.name, x.kind, x.name, err)
							}
							mu.Lock()
							if kinds[x.kind] == nil {
								kinds[x.kind] = &tally{}
							}
							kinds[x.kind].seeded++
							if found {
								kinds[x.kind].found++
							}
							mu.Unlock()
						}
					}
				})
			}
		}
	})
	var sum tally
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%-18s %5d seeded, %5d found", k, kinds[k].seeded, kinds[k].found)
		sum.seeded += kinds[k].seeded
		sum.found += kinds[k].found
	}
	t.Logf("%-18s %5d seeded, %5d found", "all", sum.seeded, sum.found)
	if sum.seeded < 200 {
		t.Errorf("only %d faults were seeded", sum.seeded)
	}
}
