package patch_test

import (
	"strings"
	"testing"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
	"hotpatch/internal/patch"
)

// TestLocksNeedStrict: old code that waits for a lock which new code takes in
// another order would wait for ever, so that the level entry is not for it.
func TestLocksNeedStrict(t *testing.T) {
	for _, c := range buildtest.Cases(t, "../diff/testdata/pairs") {
		if c.Name != "locks.c" && c.Name != "single.c" {
			continue
		}
		o := c.Compile(t, "")
		for macro, want := range map[string]string{"WIDER": "one function", "UNLOCK": "locks", "ORDER": "one function"} {
			if macro == "ORDER" != (c.Name == "single.c") {
				continue
			}
			r, err := diff.Compare(o.Stripped, c.Compile(t, macro).Stripped)
			if err != nil {
				t.Fatal(err)
			}
			p, reasons, err := patch.Build(r, "test")
			if err != nil || p == nil {
				t.Fatalf("%s: no patch: %v, %v", macro, reasons, err)
			}
			if p.EntryAllowed == (want == "locks") || !strings.Contains(p.EntryWhy, want) {
				t.Errorf("%s: entry %v, %s", macro, p.EntryAllowed, p.EntryWhy)
			}
		}
	}
}
