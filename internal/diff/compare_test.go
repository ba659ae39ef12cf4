package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// changes are the names of the functions that differ, added ones with a plus.
func changes(r *diff.Result, b buildtest.Build) []string {
	out := []string{}
	for _, c := range r.Changes {
		name := b.NameOf(c.New)
		if c.Old == nil {
			name = "+" + name
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// unlike lists the functions that symbols pair otherwise.
func unlike(r *diff.Result, o, n buildtest.Build) []string {
	olds := make(map[string]bool)
	for _, f := range r.Old.Funcs {
		olds[o.NameOf(f)] = true
	}
	var out []string
	for _, f := range r.New.Funcs {
		name := n.NameOf(f)
		was := r.OldOf(f)
		switch {
		case was == nil && olds[name]:
			out = append(out, name+" is not paired")
		case was != nil && o.NameOf(was) != name:
			out = append(out, fmt.Sprintf("%s is paired with %s", name, o.NameOf(was)))
		}
	}
	return out
}

// TestCases compares every program in testdata with each of its variants,
// with symbols and without.
func TestCases(t *testing.T) {
	for _, c := range buildtest.Cases(t, "testdata") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := c.Compile(t, "")
			for _, v := range c.Variants {
				t.Run(v.Macro, func(t *testing.T) { compareVariant(t, o, c.Compile(t, v.Macro), v) })
			}
		})
	}
}

func compareVariant(t *testing.T, o, n buildtest.Build, v buildtest.Variant) {
	for name, ms := range map[string][2]*module.Module{"full": {o.Full, n.Full}, "stripped": {o.Stripped, n.Stripped}} {
		t.Run(name, func(t *testing.T) {
			r, err := diff.Compare(ms[0], ms[1])
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range unlike(r, o, n) {
				if strings.Contains(p, "paired with") || v.Want[0] == "patchable" {
					t.Error(p)
				}
			}
			switch diff.Verdict(v.Want[0]) {
			case diff.Refused: // perhaps only by the builder of patches
				if r.Verdict == diff.Refused {
					t.Log(r.Reasons)
				}
			default:
				if string(r.Verdict) != v.Want[0] {
					t.Errorf("verdict %s, want %s: %v", r.Verdict, v.Want[0], r.Reasons)
				}
				want := append([]string{}, v.Want[1:]...)
				slices.Sort(want)
				if d := cmp.Diff(want, changes(r, n)); d != "" {
					t.Errorf("changed functions (-want +got):\n%s\n%v", d, why(r, n))
				}
			}
		})
	}
}

func why(r *diff.Result, n buildtest.Build) string {
	var b strings.Builder
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "%s: %s\n", n.NameOf(c.New), c.Why)
	}
	for _, o := range r.Omissions {
		fmt.Fprintf(&b, "left out %s: %s: %s\n", n.NameOf(o.Func), o.Reason, o.Detail)
	}
	return b.String()
}
