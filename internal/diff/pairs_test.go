package diff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
)

// TestPairs compares the pairs in testdata/pairs as stripped files, of two
// compilers and several levels of optimisation: each names the reason for which
// it has to be refused, and the nearest ones to them must be patchable.
func TestPairs(t *testing.T) {
	for name, options := range map[string][]string{
		"gcc":      {"gcc"},
		"gcc-Os":   {"gcc", "-Os", "-fcf-protection"},
		"clang-O1": {"clang", "-O1"},
		"clang":    {"clang"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range buildtest.Cases(t, "testdata/pairs") {
				compiler := options[0]
				if strings.HasSuffix(c.Name, ".cc") {
					compiler = map[string]string{"gcc": "g++", "clang": "clang++"}[compiler]
				}
				c.Command = slices.Concat([]string{compiler}, c.Command[1:], options[1:])
				o := c.Compile(t, "")
				for _, v := range c.Variants {
					t.Run(c.Name+"/"+v.Macro, func(t *testing.T) { judged(t, o, c.Compile(t, v.Macro), v) })
				}
			}
		})
	}
}

// judged compares two stripped builds, and the outcome with what the case says.
func judged(t *testing.T, o, n buildtest.Build, v buildtest.Variant) {
	t.Helper()
	r, err := diff.Compare(o.Stripped, n.Stripped)
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Verdict) != v.Want[0] {
		t.Errorf("verdict %s, want %v: %v\n%s", r.Verdict, v.Want, r.Reasons, why(r, n))
		return
	}
	if r.Verdict == diff.Refused {
		for _, reason := range r.Reasons {
			if string(reason.Code) == v.Want[1] {
				return
			}
		}
		t.Errorf("refused for another reason than %s: %v", v.Want[1], r.Reasons)
		return
	}
	want := slices.Sorted(slices.Values(v.Want[1:]))
	if d := cmp.Diff(want, changes(r, n)); d != "" && len(want)+len(changes(r, n)) > 0 {
		t.Errorf("changed functions (-want +got):\n%s\n%s", d, why(r, n))
	}
}
