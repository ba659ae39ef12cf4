package patch_test

import (
	"testing"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
	"hotpatch/internal/patch"
)

// TestLazySlot: the address of a function that the baseline only calls does
// not come from the slot of its calls, which the loader may not have filled.
func TestLazySlot(t *testing.T) {
	for _, c := range buildtest.Cases(t, "../diff/testdata") {
		if c.Name != "pointer.c" {
			continue
		}
		r, err := diff.Compare(c.Compile(t, "").Stripped, c.Compile(t, "TAKEN").Stripped)
		if err != nil {
			t.Fatal(err)
		}
		p, reasons, err := patch.Build(r, "test")
		if err != nil || p == nil {
			t.Fatalf("no patch: %v %v", reasons, err)
		}
		if len(p.Imports) != 1 || p.Imports[0].Name != "strlen" {
			t.Errorf("imports %v, want strlen alone", p.Imports)
		}
		return
	}
	t.Fatal("pointer.c is gone")
}
