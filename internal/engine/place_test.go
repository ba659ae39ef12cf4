package engine

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

func mapping(start, end process.Addr, path string) process.Mapping {
	return process.Mapping{Range: process.Range{Start: start, End: end}, Path: path}
}

// Whatever the process looks like, a place is free, keeps its distances, and
// every byte of the module is within reach of every byte of it.
func TestPlaceHolds(t *testing.T) {
	const size = 40 * page
	slow := func(a process.Addr) bool { return a>>20&3 == 1 }
	rng := rand.New(rand.NewPCG(1, 2))
	placed := 0
	for range 2000 {
		var maps []process.Mapping
		a := process.Addr(0x400000 + rng.Uint64N(1<<20)*page)
		n := 3 + rng.IntN(30)
		for i := range n {
			m := mapping(a, a+process.Addr(1+rng.Uint64N(2000))*page, "")
			if i == 1 {
				m.Path = "[heap]"
			}
			maps = append(maps, m)
			a = m.End
			if rng.IntN(3) > 0 {
				a += process.Addr(rng.Uint64N(1<<uint(rng.IntN(20)))) * page
			}
		}
		k := rng.IntN(n)
		m := process.Module{Bias: maps[k].Start, Span: maps[k].Range, Maps: maps[k : k+1]}
		at, ok := place(maps, &m, size, slow)
		if !ok {
			continue
		}
		placed++
		if at%page != 0 || at < lowest {
			t.Fatalf("place %v", at)
		}
		if max(at+size, m.Span.End)-min(at, m.Span.Start) >= 1<<31 {
			t.Fatalf("place %v is out of reach of %v", at, m.Span)
		}
		if slow(at) {
			t.Fatalf("place %v is slow", at)
		}
		for i, o := range maps {
			if at < o.End+guard && o.Start < at+size+guard {
				t.Fatalf("place %v touches mapping %v", at, o.Range)
			}
			if i == 1 && at >= o.End && at-o.End < heapRoom && (len(maps) == 2 || at < maps[2].Start) {
				t.Fatalf("place %v is in the way of the heap %v", at, o.Range)
			}
		}
	}
	if placed < 1500 {
		t.Errorf("%d of 2000 placed", placed)
	}
}

func TestNoPlace(t *testing.T) {
	// Everything within reach is taken.
	maps := []process.Mapping{
		mapping(0x10000, 0x7f0000000000, ""), mapping(0x7f0000000000, 0x7f0000100000, "/m"),
		mapping(0x7f0000100000, 0x7f0100000000, ""),
	}
	m := process.Module{Bias: maps[1].Start, Span: maps[1].Range}
	if at, ok := place(maps, &m, page, nil); ok {
		t.Errorf("place %v", at)
	}
}

func TestFixups(t *testing.T) {
	piece := bytes.Repeat([]byte{0x10}, page)
	u := &unit{
		patch: &patch.Patch{
			Pieces: []patch.Piece{{Addr: 0x1000, Bytes: piece}},
			Fixups: []patch.Fixup{
				{At: 0x1000, Kind: patch.RelBaseline},
				{At: 0x1008, Kind: patch.AbsBaseline},
				{At: 0x1010, Kind: patch.AbsOverlay},
				{At: 0x1018, Kind: patch.AbsImport, Import: 0},
			},
		},
		mod: process.Module{Bias: 0x7f0000000000}, over: 0x7efff0000000, imports: []process.Addr{0x1234},
	}
	if err := u.relocate(); err != nil {
		t.Fatal(err)
	}
	want := append([]byte(nil), piece...)
	copy(want, []byte{0x10, 0x10, 0x10, 0x20}) // + 0x10000000
	copy(want[8:], []byte{0x10, 0x10, 0x10, 0x10, 0x10, 0x8f, 0x10, 0x10})
	copy(want[0x10:], []byte{0x10, 0x10, 0x10, 0x00, 0x10, 0x8f, 0x10, 0x10})
	copy(want[0x18:], []byte{0x44, 0x22, 0x10, 0x10})
	if !bytes.Equal(u.pieces[0], want) {
		t.Errorf("got % x\nwant % x", u.pieces[0][:32], want[:32])
	}
	for _, c := range []struct {
		name string
		fix  patch.Fixup
		bias process.Addr
		code Code
	}{
		{"too far", patch.Fixup{At: 0x1000}, 0x100000000, Overflow},
		{"behind the end", patch.Fixup{At: 0x1ffd}, 0, BadPatch},
		{"no import", patch.Fixup{At: 0x1000, Kind: patch.AbsImport, Import: 1}, 0, BadPatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := *u
			v.mod.Bias, v.over = c.bias, 0
			var r *Reason
			if err := v.fix(&c.fix); !errors.As(err, &r) || r.Code != c.code {
				t.Errorf("error %v, want %s", err, c.code)
			}
		})
	}
}
