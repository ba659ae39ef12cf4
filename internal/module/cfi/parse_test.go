package cfi

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const base = 0x400000 // image address of the tables made by hand

// An asm makes tables by hand.
type asm []byte

// le appends v in n bytes.
func (a *asm) le(v uint64, n int) {
	*a = append(*a, binary.LittleEndian.AppendUint64(nil, v)[:n]...)
}

// entry appends a length and the body.
func (a *asm) entry(body ...byte) int {
	off := len(*a)
	a.le(uint64(len(body)), 4)
	*a = append(*a, body...)
	return off
}

// cie appends a CIE of version 1; rest is what follows the return column.
func (a *asm) cie(augment string, rest ...byte) int {
	body := append([]byte{0, 0, 0, 0, 1}, augment...)
	return a.entry(append(append(body, 0, 1, 0x78, RA), rest...)...)
}

// fde appends an FDE of the CIE at an offset.
func (a *asm) fde(cie int, rest ...byte) int {
	ptr := binary.LittleEndian.AppendUint32(nil, uint32(len(*a)+4-cie))
	return a.entry(append(ptr, rest...)...)
}

func field(v uint64, n int) []byte { return binary.LittleEndian.AppendUint64(nil, v)[:n:n] }

func cat(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func mustParse(t testing.TB, data []byte) *Table {
	t.Helper()
	tab, err := Parse(data, base)
	if err != nil {
		t.Fatalf("%v: % x", err, data)
	}
	return tab
}

func TestParsePointerEncodings(t *testing.T) {
	const start, size = 0x412345, 0x30
	tests := []struct {
		name  string
		enc   byte
		field func(at uint64) []byte // at: image address of the field
		size  []byte
		start uint64
	}{
		{"absptr", 0x00, func(uint64) []byte { return field(start, 8) }, field(size, 8), start},
		{"uleb128", 0x01, func(uint64) []byte { return binary.AppendUvarint(nil, start) }, []byte{size}, start},
		{"udata2", 0x02, func(uint64) []byte { return field(0x9234, 2) }, field(size, 2), 0x9234},
		{"udata4", 0x03, func(uint64) []byte { return field(0x90001234, 4) }, field(size, 4), 0x90001234},
		{"udata8", 0x04, func(uint64) []byte { return field(start, 8) }, field(size, 8), start},
		{"sleb128", 0x09, func(uint64) []byte { return []byte{0xc0, 0x00} }, []byte{size}, 0x40},
		{"sdata2", 0x0a, func(uint64) []byte { return field(0x1234, 2) }, field(size, 2), 0x1234},
		{"sdata4", 0x0b, func(uint64) []byte { return field(0x80001234, 4) }, field(size, 4), 0xffffffff80001234},
		{"sdata8", 0x0c, func(uint64) []byte { return field(start, 8) }, field(size, 8), start},
		{"pcrel absptr", 0x10, func(at uint64) []byte { return field(start-at, 8) }, field(size, 8), start},
		{"pcrel sdata2", 0x1a, func(at uint64) []byte { return field(0xff00, 2) }, field(size, 2), base + 0x19 - 0x100},
		{"pcrel sdata4", 0x1b, func(at uint64) []byte { return field(start-at, 4) }, field(size, 4), start},
		{"pcrel sdata8", 0x1c, func(at uint64) []byte { return field(start-at, 8) }, field(size, 8), start},
		{"pcrel sleb128", 0x19, func(at uint64) []byte { return []byte{0x7f} }, []byte{size}, base + 0x19 - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var a asm
			cie := a.cie("zR", 1, tt.enc)
			at := uint64(len(a) + 8)
			a.fde(cie, cat(tt.field(base+at), tt.size, []byte{0, cfaNop})...)
			tab := mustParse(t, a)
			f := tab.FDEs[0]
			if f.Start != tt.start || f.End != tt.start+size || f.StartField.Off != int(at) ||
				f.InstrAddr != base+uint64(len(a))-1 || string(f.Instrs) != "\x00" {
				t.Errorf("got %+v (field at %#x)", f, at)
			}
		})
	}
}

func TestParseAugmentations(t *testing.T) {
	none := Pointer{Enc: encOmit}
	tests := []struct {
		augment    string
		cie, fde   []byte // after the return column; after the range
		want       CIE
		lsda       Pointer
		fieldBytes int
	}{
		{augment: "", want: CIE{Personality: none, LSDAEnc: encOmit}, fieldBytes: 8, lsda: none},
		{
			augment: "zR", cie: []byte{1, 0x03}, fde: []byte{0}, fieldBytes: 4, lsda: none,
			want: CIE{Personality: none, LSDAEnc: encOmit, FDEEnc: 3},
		},
		{
			augment: "zRS", cie: []byte{2, 0x03, 0xee}, fde: []byte{1, 0xee}, fieldBytes: 4, lsda: none,
			want: CIE{Personality: none, LSDAEnc: encOmit, FDEEnc: 3, Signal: true},
		},
		{
			augment: "zPLR", cie: []byte{7, 0x9b, 0x10, 0, 0, 0, 0x1b, 0x03}, fde: []byte{4, 0x20, 0, 0, 0}, fieldBytes: 4,
			want: CIE{Personality: Pointer{base + 0x13 + 0x10, true, 0x9b, 0x13, 4}, LSDAEnc: 0x1b, FDEEnc: 3},
			lsda: Pointer{base + 0x31 + 0x20, false, 0x1b, 0x31, 4},
		},
		{
			augment: "zPLR", cie: []byte{7, 0x1b, 0, 0, 0, 0, 0x1b, 0x03}, fde: []byte{4, 0, 0, 0, 0}, fieldBytes: 4,
			want: CIE{Personality: Pointer{0, false, 0x1b, 0x13, 4}, LSDAEnc: 0x1b, FDEEnc: 3},
			lsda: Pointer{0, false, 0x1b, 0x31, 4},
		},
	}
	for _, tt := range tests {
		t.Run(tt.augment, func(t *testing.T) {
			var a asm
			cie := a.cie(tt.augment, append(tt.cie, cfaDefCFA, RSP, 8, cfaNop)...)
			for len(a)%8 != 0 { // lengthen the instructions
				a = append(a, cfaNop)
				a[0]++
			}
			a.fde(cie, cat(field(0x1000, tt.fieldBytes), field(0x10, tt.fieldBytes), tt.fde, []byte{cfaAdvanceLoc | 1})...)
			f := mustParse(t, a).FDEs[0]
			got := *f.CIE
			if string(got.Instrs[:4]) != "\x0c\x07\x08\x00" || string(f.Instrs) != "\x41" {
				t.Errorf("instructions % x, % x", got.Instrs, f.Instrs)
			}
			tt.want.Len, tt.want.Version, tt.want.Augment = got.Len, 1, tt.augment
			tt.want.CodeAlign, tt.want.DataAlign, tt.want.Return = 1, -8, RA
			got.Instrs = nil
			if d := cmp.Diff(tt.want, got) + cmp.Diff(tt.lsda, f.LSDA); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseSections(t *testing.T) {
	var a asm
	plain := func(start uint64) []byte { return cat(field(start, 8), field(0x10, 8)) }
	first := a.cie("")
	a.fde(first, plain(0x3000)...)
	a.le(0, 4) // a terminator in the middle
	a.fde(first, cat(field(0x5000, 8), field(0, 8))...)
	a.fde(first, cat(field(0, 8), field(0x10, 8))...)
	second := a.entry(cat(field(0, 4), []byte{3, 'e', 'h', 0}, field(0xabcdef, 8), []byte{1, 0x78, 0x90, 0})...)
	a.fde(second, plain(0x1000)...)
	wide := len(a) // an FDE with a 64-bit length
	a.le(0xffffffff, 4)
	a.le(4+16, 8)
	a.le(uint64(wide+12-first), 4)
	a = append(a, plain(0x2000)...)
	fourth := a.entry(cat(field(0, 4), []byte{4, 0, 8, 0, 1, 0x78, RA})...)
	a.fde(fourth, plain(0x4000)...)
	a.le(0, 4)
	tab := mustParse(t, a)
	type brief struct {
		Start, End uint64
		CIE        int
	}
	var got []brief
	for _, f := range tab.FDEs {
		got = append(got, brief{f.Start, f.End, f.CIE.Off})
	}
	want := []brief{{0x1000, 0x1010, second}, {0x2000, 0x2010, first}, {0x3000, 0x3010, first}, {0x4000, 0x4010, fourth}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for pc, want := range map[uint64]uint64{
		0: 0, 0xfff: 0, 0x1000: 0x1000, 0x100f: 0x1000, 0x1010: 0, 0x2008: 0x2000, 0x400f: 0x4000, 0x4010: 0, ^uint64(0): 0,
	} {
		got := uint64(0)
		if f := tab.Find(pc); f != nil {
			got = f.Start
		}
		if got != want {
			t.Errorf("find %#x: got %#x, want %#x", pc, got, want)
		}
	}
}

func TestParseMalformed(t *testing.T) {
	with := func(make func(a *asm)) []byte {
		var a asm
		make(&a)
		return a
	}
	plain := cat(field(0x1000, 8), field(0x10, 8))
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"length cut", []byte{1, 0}, "offset 0x0: truncated"},
		{"64-bit length cut", []byte{0xff, 0xff, 0xff, 0xff, 1}, "truncated"},
		{"beyond the section", []byte{9, 0, 0, 0, 0}, "length 0x9: truncated"},
		{"huge", cat(field(0xffffffff, 4), field(^uint64(0), 8)), "truncated"},
		{"no room for an id", []byte{1, 0, 0, 0, 0}, "truncated"},
		{"version", with(func(a *asm) { a.entry(0, 0, 0, 0, 2, 0, 1, 0x78, 16) }), "CIE version 2"},
		{"augmentation without end", with(func(a *asm) { a.entry(0, 0, 0, 0, 1, 'z') }), "truncated"},
		{"augmentation", with(func(a *asm) { a.cie("xR", 1, 0) }), `augmentation "xR"`},
		{"augmentation letter", with(func(a *asm) { a.cie("zX", 1, 0) }), `augmentation "zX"`},
		{"augmentation data cut", with(func(a *asm) { a.cie("zR", 9, 0) }), "truncated"},
		{"augmentation data short", with(func(a *asm) { a.cie("zPLR", 2, 0, 0, 0, 0, 0, 0, 0, 0, 0) }), "truncated"},
		{"segments", with(func(a *asm) { a.entry(0, 0, 0, 0, 4, 0, 8, 4, 1, 0x78, 16) }), "segments of 4 bytes"},
		{"code alignment", with(func(a *asm) { a.entry(0, 0, 0, 0, 1, 0, 0, 0x78, 16) }), "code alignment 0"},
		{"return column", with(func(a *asm) { a.entry(0, 0, 0, 0, 1, 0, 1, 0x78, 15) }), "column 15"},
		{"long number", with(func(a *asm) {
			a.entry(cat(field(0, 4), []byte{1, 0}, []byte(strings.Repeat("\x80", 10)), []byte{1, 0x78, 16})...)
		}), "LEB128"},
		{"no such CIE", with(func(a *asm) { a.cie(""); a.fde(2, plain...) }), "offset 0xd: no CIE at offset 0x2"},
		{"CIE after", with(func(a *asm) { a.fde(0x30, plain...) }), "no CIE"},
		{"CIE before the section", with(func(a *asm) { a.fde(-0x30, plain...) }), "no CIE"},
		{"range cut", with(func(a *asm) { a.fde(a.cie(""), plain[:15]...) }), "truncated"},
		{"range wraps", with(func(a *asm) { a.fde(a.cie(""), cat(field(0x10, 8), field(^uint64(0), 8))...) }), "range of"},
		{"indirect range", with(func(a *asm) { a.fde(a.cie("zR", 1, 0x9b), plain...) }), "encoding 0x9b of a range"},
		{"omitted range", with(func(a *asm) { a.fde(a.cie("zR", 1, 0xff), plain...) }), "encoding 0xff"},
		{"datarel range", with(func(a *asm) { a.fde(a.cie("zR", 1, 0x3b), plain...) }), "encoding 0x3b"},
		{"unknown format", with(func(a *asm) { a.fde(a.cie("zR", 1, 0x05), plain...) }), "encoding 0x5"},
		{"FDE data cut", with(func(a *asm) { a.fde(a.cie("zR", 1, 0), append(plain[:16:16], 5)...) }), "truncated"},
		{"LSDA cut", with(func(a *asm) { a.fde(a.cie("zL", 1, 0), append(plain[:16:16], 1, 0)...) }), "truncated"},
		{"overlap", with(func(a *asm) { c := a.cie(""); a.fde(c, plain...); a.fde(c, plain...) }), "overlap at 0x1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.data, base)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
