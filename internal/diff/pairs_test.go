package diff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/debuginfo"
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
				c.Command = slices.Concat([]string{compiler(options[0], c.Name)}, c.Command[1:], options[1:])
				o := c.Compile(t, "")
				for _, v := range c.Variants {
					t.Run(c.Name+"/"+v.Macro, func(t *testing.T) { judged(t, o, c.Compile(t, v.Macro), v, false) })
				}
			}
		})
	}
}

// TestTypes compares the pairs in testdata/types, and those in testdata/pairs
// as well, with their debug information.
func TestTypes(t *testing.T) {
	for name, options := range map[string][]string{
		"gcc":     {"gcc", "-g"},
		"gcc-4":   {"gcc", "-gdwarf-4", "-gz", "-O1"},
		"clang":   {"clang", "-g"},
		"clang-4": {"clang", "-gdwarf-4", "-O1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cases := buildtest.Cases(t, "testdata/types")
			if !strings.HasSuffix(name, "-4") {
				cases = append(cases, buildtest.Cases(t, "testdata/pairs")...)
			}
			for _, c := range cases {
				c.Command = slices.Concat([]string{compiler(options[0], c.Name)}, c.Command[1:], options[1:])
				o := c.Compile(t, "")
				for _, v := range c.Variants {
					t.Run(c.Name+"/"+v.Macro, func(t *testing.T) { judged(t, o, c.Compile(t, v.Macro), v, true) })
				}
			}
		})
	}
}

// compiler is the compiler for C++ where a file is C++.
func compiler(c, file string) string {
	if strings.HasSuffix(file, ".cc") {
		return map[string]string{"gcc": "g++", "clang": "clang++"}[c]
	}
	return c
}

// judged compares two builds, stripped or with debug information, and the
// outcome with what the case says: the verdict, then a reason or what changed,
// with ~ a remark, with ? one that only debug information allows.
func judged(t *testing.T, o, n buildtest.Build, v buildtest.Variant, typed bool) {
	t.Helper()
	r, err := diff.Compare(o.Stripped, n.Stripped)
	if typed {
		r, err = diff.CompareTypes(o.Full, n.Full, func() (a, b *debuginfo.Info, err error) {
			if a, err = debuginfo.Read(o.Full.File(), nil); err != nil {
				return nil, nil, err
			}
			b, err = debuginfo.Read(n.Full.File(), nil)
			return a, b, err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Verdict) != v.Want[0] {
		t.Errorf("verdict %s, want %v: %v\n%s", r.Verdict, v.Want, r.Reasons, why(r, n))
		return
	}
	if r.Verdict == diff.Refused {
		if !slices.ContainsFunc(r.Reasons, func(reason diff.Reason) bool { return string(reason.Code) == v.Want[1] }) {
			t.Errorf("refused for another reason than %s: %v", v.Want[1], r.Reasons)
		}
		return
	}
	if typed && len(r.Changes) > 0 && !r.Typed {
		t.Error("types were not compared")
	}
	want, remarks := []string{}, []string{}
	for _, w := range v.Want[1:] {
		switch {
		case w[0] == '~', w[0] == '?' && typed:
			remarks = append(remarks, w[1:])
		case w[0] != '?':
			want = append(want, w)
		}
	}
	slices.Sort(want)
	if d := cmp.Diff(want, changes(r, n)); d != "" {
		t.Errorf("changed functions (-want +got):\n%s\n%s", d, why(r, n))
	}
	got := []string{}
	for _, k := range r.Remarks {
		got = append(got, string(k.Kind))
	}
	if d := cmp.Diff(remarks, got); d != "" {
		t.Errorf("remarks (-want +got):\n%s\n%v", d, r.Remarks)
	}
}
