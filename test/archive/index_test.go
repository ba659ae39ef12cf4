package archive

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const packages = `Package: libx1
Source: x
Version: 1.0-1+b1
Architecture: amd64
Pre-Depends: libc6 (>= 2.14)
Depends: liby1 | libz1
Provides: libx-abi (= 1)
Size: 100

Package: x
Source: x (1.0-1)
Version: 1:1.0-1+b2
Architecture: amd64
Size: 100

Package: libx1
Source: x
Version: 1.0-1+deb12u1
Architecture: amd64
Size: 100

Package: libx1-dbg
Source: x
Version: 1.0-1+deb12u1
Architecture: amd64

Package: x-doc
Source: x
Version: 1.0-1+deb12u1
Architecture: all

Package: y
Version: 1
Architecture: amd64
`

func TestIndex(t *testing.T) {
	ix := &Index{byName: map[string][]*Package{}, bySource: map[string][]*Package{}, provided: map[string][]string{}}
	ix.read([]byte(packages))
	if d := cmp.Diff([]string{"x"}, ix.Twice()); d != "" {
		t.Errorf("sources in two versions (-want +got):\n%s", d)
	}
	baseline, fixed, pairs, err := ix.Pairs(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if baseline != "1.0-1+b1" || fixed != "1.0-1+deb12u1" || len(pairs) != 1 || pairs[0].Old.Version != "1.0-1+b1" {
		t.Errorf("pairs of %s and %s: %v", baseline, fixed, pairs)
	}
	if p := ix.Newest("libx-abi"); p == nil || p.Name != "libx1" || p.Version != "1.0-1+deb12u1" {
		t.Errorf("who provides libx-abi: %v", p)
	}
	if got, want := ix.bySource["x"][0].Depends, "libc6 (>= 2.14), liby1 | libz1"; got != want {
		t.Errorf("depends %q, want %q", got, want)
	}
	if _, _, _, err := ix.Pairs(t.Context(), "y"); err == nil {
		t.Error("a source in one version makes a pair")
	}
	if got, want := ix.bySource["x"][1].File(), "x_1%3a1.0-1+b2_amd64.deb"; got != want {
		t.Errorf("file %q, want %q", got, want)
	}
}
