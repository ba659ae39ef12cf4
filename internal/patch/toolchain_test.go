package patch_test

import (
	"slices"
	"strings"
	"testing"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
	"hotpatch/internal/patch"
)

// unlike are the cases that become others under clang.
var unlike = map[string]string{
	"data.c/CONSTRUCTOR": "clang runs the constructor when it compiles, and folds what it stores",
	"ends.c/NEWCONST":    "clang counts instead of comparing with the end, so that no doubt arises",
}

// TestToolchains builds the programs of internal/diff/testdata with other
// compilers, linkers and options. Which functions change then is another
// matter, but what has to be refused still has to be, and every patch leads
// where it should.
func TestToolchains(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles every program many times")
	}
	for name, options := range map[string][]string{
		"clang-lld":           {"clang", "-fuse-ld=lld"},
		"clang-bfd":           {"clang"},
		"gcc-noseparate-code": {"gcc", "-Wl,-z,noseparate-code"},
		"gcc-relr":            {"gcc", "-Wl,-z,pack-relative-relocs"},
		"gcc-symbolic":        {"gcc", "-Wl,-Bsymbolic", "-Wl,-z,now"},
		"gcc-cet":             {"gcc", "-fcf-protection", "-O3"},
		"gcc-small":           {"gcc", "-Os", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"},
		"gcc-no-plt":          {"gcc", "-fno-plt", "-O1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			patches := 0
			for _, c := range buildtest.Cases(t, "../diff/testdata") {
				if c.Command[0] != "gcc" || strings.HasSuffix(c.Name, ".s") {
					continue
				}
				c.Command = slices.Concat([]string{options[0]}, c.Command[1:], options[1:])
				if name == "clang-lld" { // it makes no unwind information of its own, and knows no option for it
					c.Command = slices.DeleteFunc(c.Command, func(o string) bool { return o == "-Wl,--no-ld-generated-unwind-info" })
				}
				o := c.Compile(t, "")
				for _, v := range c.Variants {
					t.Run(c.Name+"/"+v.Macro, func(t *testing.T) {
						if why := unlike[c.Name+"/"+v.Macro]; options[0] == "clang" && why != "" {
							v.Want = []string{"patchable"}
							if !followed(t, o, c.Compile(t, v.Macro), v) {
								t.Errorf("no patch, although %s", why)
							}
							return
						}
						if followed(t, o, c.Compile(t, v.Macro), v) {
							patches++
						}
					})
				}
			}
			if patches < 5 {
				t.Errorf("only %d patches", patches)
			}
		})
	}
}

// followed compares, builds and links; it reports whether there is a patch.
func followed(t *testing.T, o, n buildtest.Build, v buildtest.Variant) bool {
	r, err := diff.Compare(o.Stripped, n.Stripped)
	if err != nil {
		t.Fatal(err)
	}
	p, reasons, err := patch.Build(r, "test")
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case p != nil && v.Want[0] != "patchable":
		t.Errorf("a patch although it should be %v", v.Want)
	case p == nil && v.Want[0] == "patchable":
		t.Log(r.Verdict, reasons)
	}
	if p != nil {
		link(t, p, o, n).follow()
	}
	return p != nil
}
