package cfi

import (
	"debug/elf"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lsdas returns the LSDA addresses of a table, each with the FDE it belongs to.
func lsdas(tab *Table) map[uint64]*FDE {
	all := map[uint64]*FDE{}
	for i := range tab.FDEs {
		if f := &tab.FDEs[i]; f.LSDA.Value != 0 {
			all[f.LSDA.Value] = f
		}
	}
	return all
}

// The areas of libstdc++ lie one behind the other, aligned to 4 bytes at most;
// so what ParseLSDA says is their extent must fill the section but for padding.
// A byte more is left where no call site leads to the function's exception
// specification, throw(): that is never read.
func TestLSDAsFillTheSection(t *testing.T) {
	l := systemLibraries[2]
	tab := library(t, l.path, l.pkg)
	data, addr := section(t, l.path, ".gcc_except_table")
	all := lsdas(tab)
	starts := slices.Sorted(maps.Keys(all))
	if len(starts) == 0 || starts[0] != addr {
		t.Fatalf("the first of %d areas is not at %#x", len(starts), addr)
	}
	types, where := 0, sectionOf(t, l.path)
	for i, at := range starts {
		a, err := ParseLSDA(data, addr, at, all[at].Start)
		if err != nil {
			t.Fatal(err)
		}
		next := addr + uint64(len(data))
		if i+1 < len(starts) {
			next = starts[i+1]
		}
		if next < a.End || next-a.End > 4 {
			t.Errorf("area %#x..%#x, the next begins at %#x", a.Start, a.End, next)
		}
		checkArea(t, tab, &a, all[at], where)
		types += len(a.Types)
	}
	t.Logf("%d areas, %d types", len(starts), types)
}

// checkArea checks that an area's addresses make sense in its function.
func checkArea(t *testing.T, tab *Table, a *LSDA, f *FDE, where func(uint64) string) {
	t.Helper()
	for _, s := range a.Sites {
		if s.Start < f.Start || s.End > f.End {
			t.Errorf("LSDA at %#x: call site %#x..%#x outside %#x..%#x", a.Start, s.Start, s.End, f.Start, f.End)
		}
		// With a landing pad base it may be in the function's other part.
		if p := tab.Find(s.Pad); s.Pad != 0 && (p == nil || a.LPStart.Enc == encOmit && p != f) {
			t.Errorf("LSDA at %#x: landing pad %#x is in %+v", a.Start, s.Pad, p)
		}
	}
	for _, p := range a.Types {
		if p.Value == 0 {
			continue
		}
		if name := where(p.Value); !p.Indirect || name != ".data" && name != ".data.rel.ro" && name != ".got" {
			t.Errorf("LSDA at %#x: type %+v in %q", a.Start, p, name)
		}
	}
}

// sectionOf returns a function that names the section an address is in.
func sectionOf(t *testing.T, path string) func(uint64) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return func(addr uint64) string {
		for _, s := range f.Sections {
			if s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_TLS == 0 && addr >= s.Addr && addr-s.Addr < s.Size {
				return s.Name
			}
		}
		return ""
	}
}

// An area written by hand: two call sites, a chain of two actions, an
// exception specification, three types.
var handLSDA = []byte{
	0xff,         // no landing pad base
	0x9b, 30 - 3, // types: indirect pcrel sdata4; the table ends at 30
	0x01, 8, // call sites: uleb, 8 bytes
	0x10, 0x05, 0x40, 0x03, // 0x10..0x15 -> 0x40, action 2
	0x20, 0x04, 0x00, 0x00, // 0x20..0x24 -> nowhere
	0x7f, 0x00, // action 0: filter -1, specification at 0
	0x01, 0x7d, // action 2: filter 1, then the one at -3
	0,                      // padding
	0x00, 0x01, 0x00, 0x00, // type 3
	0, 0, 0, 0, // type 2: catch (...)
	0xf0, 0xff, 0xff, 0xff, // type 1
	0x03, 0x02, 0x00, // the specification: types 3 and 2
	0xcc, // not part of it
}

func TestParseLSDA(t *testing.T) {
	got, err := ParseLSDA(append([]byte{0xaa}, handLSDA...), 0x1000, 0x1001, 0x5000)
	if err != nil {
		t.Fatal(err)
	}
	want := LSDA{
		Start: 0x1001, End: 0x1001 + uint64(len(handLSDA)) - 1,
		LPStart: Pointer{Enc: encOmit}, TypeEnc: 0x9b,
		Sites: []CallSite{{0x5010, 0x5015, 0x5040, 3}, {0x5020, 0x5024, 0, 0}},
		Types: []Pointer{
			{Value: 0x101b - 0x10, Indirect: true, Enc: 0x9b, Off: 0x1b, Size: 4},
			{Indirect: true, Enc: 0x9b, Off: 0x17, Size: 4},
			{Value: 0x1013 + 0x100, Indirect: true, Enc: 0x9b, Off: 0x13, Size: 4},
		},
		Actions: []byte{0x7f, 0x00, 0x01, 0x7d},
		Specs:   []byte{0x03, 0x02, 0x00},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseLSDAMalformed(t *testing.T) {
	change := func(at int, v byte) []byte {
		b := append([]byte(nil), handLSDA...)
		b[at] = v
		return b
	}
	tests := []struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"landing pad encoding", change(0, 0x35)},
		{"type table beyond the data", change(2, 0x7f)},
		{"type table before the call sites", change(2, 0x01)},
		{"call-site encoding", change(3, 0x11)},
		{"call sites beyond the data", change(4, 0x7f)},
		{"call sites cut", change(4, 7)},
		{"action outside", change(8, 0x60)},
		{"next action before the table", change(16, 0x60)},
		{"specification outside", change(13, 0x40)},
		{"more types than there is room for", change(15, 0x20)},
		{"types of no fixed size", change(1, 0x91)},
		{"filter without types", append([]byte{0xff, 0xff}, handLSDA[3:]...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := ParseLSDA(tt.data, 0x1000, 0x1000, 0x5000); err == nil {
				t.Errorf("got %+v", got)
			}
		})
	}
	for n := range len(handLSDA) - 1 {
		if _, err := ParseLSDA(handLSDA[:n], 0x1000, 0x1000, 0x5000); err == nil {
			t.Errorf("no error for the first %d bytes", n)
		}
	}
}
