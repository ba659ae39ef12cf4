package cfi

import (
	"encoding/binary"
	"testing"
)

// hash makes memory and registers out of nothing, the same each time.
func hash(addr uint64) (uint64, error) {
	if addr%7 == 0 {
		return 0, errUnmapped
	}
	return addr * 0x9e3779b97f4a7c15, nil
}

// useRow executes an FDE at a few places and steps from there.
func useRow(t *testing.T, f *FDE) {
	for _, pc := range []uint64{f.Start, f.Start + (f.End-f.Start)/2, f.End - 1} {
		row, err := f.Row(pc)
		if err != nil {
			continue
		}
		regs := Regs{Known: 0x1ffff}
		for i := range regs.R {
			regs.R[i] = uint64(i) * 0x1001
		}
		out, err := row.Step(&regs, hash)
		if err == nil && (out.Known>>RSP&1 == 0 || out.Known>>RA&1 == 0) {
			t.Errorf("step without rsp or return address: %+v", out)
		}
	}
	if _, err := f.EntryIsCall(); err == nil {
		if _, err := f.Row(f.Start); err != nil {
			t.Errorf("EntryIsCall has no error, Row has: %v", err)
		}
	}
}

// FuzzParse checks that whatever Parse accepts is ordered, lies in the section
// and can be used, and that what Build makes of it parses to the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	var a asm
	cie := a.cie("zPLR", 7, 0x9b, 0x10, 0, 0, 0, 0x1b, 0x1b, cfaDefCFA, RSP, 8, cfaOffset|RA, 1)
	a.fde(cie, cat(field(0x1000, 4), field(0x20, 4), []byte{4, 8, 0, 0, 0, cfaAdvanceLoc | 1, cfaDefCFAOffset, 16})...)
	a.le(0, 4)
	f.Add([]byte(a))
	f.Fuzz(func(t *testing.T, data []byte) {
		tab, err := Parse(data, base)
		if err != nil {
			return
		}
		for i := range tab.FDEs {
			fde := &tab.FDEs[i]
			if fde.Start >= fde.End || fde.Off < 0 || fde.Off+fde.Len > len(data) || i > 0 && fde.Start < tab.FDEs[i-1].End {
				t.Fatalf("FDE %+v", fde)
			}
			if tab.Find(fde.Start) != fde || tab.Find(fde.End-1) != fde {
				t.Errorf("find in %#x..%#x: another", fde.Start, fde.End)
			}
			useRow(t, fde)
		}
		u, err := Build(base+0x100000, framesOf(tab))
		if err != nil {
			return
		}
		got := parseBuilt(t, u)
		for i := range tab.FDEs {
			x, y := &tab.FDEs[i], &got.FDEs[i]
			if x.Start != y.Start || x.End != y.End || x.LSDA.Value != y.LSDA.Value || x.CIE.Personality.Value != y.CIE.Personality.Value {
				t.Errorf("built %+v of %+v", y, x)
			}
		}
	})
}

// FuzzRow executes arbitrary instructions and evaluates the expressions in them.
func FuzzRow(f *testing.F) {
	f.Add([]byte{cfaDefCFA, RSP, 8, cfaOffset | RA, 1}, []byte{cfaAdvanceLoc | 1, cfaDefCFAOffset, 16, cfaOffset | 3, 2})
	f.Add([]byte{cfaDefCFAExpression, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22, cfaOffset | RA, 1}, []byte{cfaRememberState, cfaRestoreState})
	f.Fuzz(func(t *testing.T, cie, instrs []byte) {
		fde := handFDE(instrs...)
		fde.CIE.Instrs = cie
		useRow(t, fde)
	})
}

// FuzzLSDA checks that an area lies in the data, and that a copy of it elsewhere
// reads the same.
func FuzzLSDA(f *testing.F) {
	f.Add(handLSDA, uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, off uint16) {
		a, err := ParseLSDA(data, base, base+uint64(off), 0x1000)
		if err != nil {
			return
		}
		if a.Start != base+uint64(off) || a.End <= a.Start || a.End > base+uint64(len(data)) {
			t.Fatalf("area %#x..%#x of %d bytes", a.Start, a.End, len(data))
		}
		area := append([]byte(nil), data[a.Start-base:a.End-base]...)
		b, err := ParseLSDA(area, a.Start, a.Start, 0x1000)
		if err != nil {
			t.Fatalf("the area alone: %v", err)
		}
		if b.End != a.End || len(b.Types) != len(a.Types) || len(b.Sites) != len(a.Sites) {
			t.Errorf("the area alone: %+v, want %+v", b, a)
		}
		for i, p := range b.Types {
			if p.Off < 0 || p.Off+p.Size > len(area) || p.Value != a.Types[i].Value {
				t.Errorf("type %d: %+v, want %+v", i+1, p, a.Types[i])
			}
		}
	})
}

// Memory stays within a small multiple of the section however it is made up.
func TestParseBoundedMemory(t *testing.T) {
	var a asm
	cie := a.cie("zR", 1, encUdata2)
	for i := range uint64(4000) {
		a.fde(cie, cat(field(1+i, 2), field(1, 2), []byte{0})...)
	}
	tab := mustParse(t, a)
	if len(tab.FDEs) != 4000 {
		t.Fatalf("%d FDEs", len(tab.FDEs))
	}
	r := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			mustParse(b, a)
		}
	})
	if got := r.AllocedBytesPerOp(); got > int64(100*len(a)) {
		t.Errorf("%d bytes for a section of %d", got, len(a))
	}
	huge := binary.LittleEndian.AppendUint32(nil, 0xfffffff0)
	if _, err := Parse(huge, base); err == nil {
		t.Error("no error for a huge length")
	}
}
