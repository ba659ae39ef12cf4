package check

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
)

// islandLen is the length of a jmp rel32.
const islandLen = 5

// piece is a piece of the overlay in its place in the process.
type piece struct {
	start, end uint64
	prot       patch.Prot
	bytes      []byte
}

// link is a 64-bit field of the overlay that a fixup filled.
type link struct {
	fixup *patch.Fixup
	used  bool
}

// link puts the overlay into its place and applies the fixups.
func (c *checker) link() bool {
	c.at("overlay", 0)
	c.links, c.fields, c.islands = make(map[uint64]*link), make(map[uint64]uint64), make(map[uint64]bool)
	for i := range c.patch.Pieces {
		p := &c.patch.Pieces[i]
		a := uint64(p.Addr)
		c.where = a
		if p.Prot > patch.ReadWrite || a%patch.PageSize != 0 || len(p.Bytes)%patch.PageSize != 0 || len(p.Bytes) == 0 {
			c.fault(Layout, "a piece of %d bytes with protection %d", len(p.Bytes), p.Prot)
			return false
		}
		c.pieces = append(c.pieces, piece{a + overlayBias, a + overlayBias + uint64(len(p.Bytes)), p.Prot, slices.Clone(p.Bytes)})
	}
	slices.SortFunc(c.pieces, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(c.pieces); i++ {
		if c.pieces[i].start < c.pieces[i-1].end {
			c.where = c.pieces[i].start - overlayBias
			c.fault(Layout, "two pieces overlap")
			return false
		}
	}
	patched := make(map[uint64]bool)
	for i := range c.patch.Fixups {
		if !c.apply(&c.patch.Fixups[i], patched) {
			return false
		}
	}
	return true
}

func (c *checker) apply(f *patch.Fixup, patched map[uint64]bool) bool {
	c.where = uint64(f.At)
	at, size := uint64(f.At)+overlayBias, uint64(f.Size())
	b := c.overlay(at, size)
	if b == nil {
		c.fault(Fixup, "its field lies outside the overlay")
		return false
	}
	for k := at; k < at+size; k++ {
		if patched[k] {
			c.fault(Fixup, "two fixups share a byte")
			return false
		}
		patched[k] = true
	}
	switch f.Kind {
	case patch.RelOverlay:
		c.links[at] = &link{fixup: f}
		return true
	case patch.RelBaseline:
		delta := int64(baseBias) - overlayBias
		v := int64(int32(binary.LittleEndian.Uint32(b))) + delta
		if int64(int32(v)) != v {
			c.fault(Fixup, "its field overflows")
		}
		binary.LittleEndian.PutUint32(b, uint32(v))
		c.links[at] = &link{fixup: f}
		return true
	}
	v := number(b)
	switch f.Kind {
	case patch.AbsBaseline, patch.NarrowBaseline:
		v += baseBias
	case patch.AbsOverlay, patch.NarrowOverlay:
		v += overlayBias
	case patch.AbsImport:
		if f.Import < 0 || f.Import >= len(c.patch.Imports) {
			c.fault(Fixup, "there is no import %d", f.Import)
			return false
		}
	default:
		c.fault(Fixup, "kind %d", f.Kind)
		return false
	}
	if size == 4 && v > math.MaxInt32 {
		c.fault(Fixup, "its field overflows")
	}
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	c.links[at] = &link{fixup: f}
	return true
}

// pieceAt is the piece of the overlay that an address of the process lies in.
func (c *checker) pieceAt(a uint64) *piece {
	i := sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].end > a })
	if i < len(c.pieces) && c.pieces[i].start <= a {
		return &c.pieces[i]
	}
	return nil
}

// overlay is n bytes of the linked overlay, or nil.
func (c *checker) overlay(a, n uint64) []byte {
	p := c.pieceAt(a)
	if p == nil || n > p.end-a {
		return nil
	}
	return p.bytes[a-p.start:][:n]
}

// memory is n bytes of the process, or nil.
func (c *checker) memory(a, n uint64) []byte {
	if b := c.overlay(a, n); b != nil {
		return b
	}
	if a < baseBias {
		return nil
	}
	return c.old.bytes(a-baseBias, n)
}

// included finds the parts of the fixed build that the overlay has.
func (c *checker) included() {
	c.in = make(map[*part]*moved)
	for i := range c.patch.Functions {
		f := &c.patch.Functions[i]
		c.at(f.Name, 0)
		if len(f.Fixed) == 0 || len(f.Fixed) != len(f.Ranges) {
			c.fault(Bytes, "%d ranges are %d in the overlay", len(f.Fixed), len(f.Ranges))
			continue
		}
		for k, r := range f.Fixed {
			c.where = uint64(r.Start)
			to := uint64(f.Ranges[k].Start)
			p := c.fixed.partAt(c.where)
			if p == nil || p.gap || p.start != uint64(r.Start) || p.end != uint64(r.End) || uint64(f.Ranges[k].End)-to != p.end-p.start {
				c.fault(Bytes, "not a function of the fixed build")
				continue
			}
			in := c.pieceAt(to + overlayBias)
			switch {
			case in == nil || in.prot != patch.ReadExec || p.end-p.start > in.end-to-overlayBias:
				c.fault(Bytes, "not in an executable piece of the overlay")
			case c.in[p] != nil:
				c.fault(Bytes, "twice in the overlay")
			case to%align(p.start, 16) != 0:
				c.fault(Bytes, "not aligned as in the fixed build")
			default:
				c.code = append(c.code, moved{p, to, i})
				c.in[p] = &moved{p, to, i}
			}
		}
	}
	slices.SortFunc(c.code, func(a, b moved) int { return cmp.Compare(a.part.start, b.part.start) })
	byPlace := slices.Clone(c.code)
	slices.SortFunc(byPlace, func(a, b moved) int { return cmp.Compare(a.to, b.to) })
	for i := 1; i < len(byPlace); i++ {
		if a, b := &byPlace[i-1], &byPlace[i]; a.to+a.part.end-a.part.start > b.to {
			c.at(b.part.String(), b.part.start)
			c.fault(Layout, "overlaps %v in the overlay", a.part)
		}
	}
}

// align is the largest power of two, at most most, that divides a.
func align(a, most uint64) uint64 {
	if n := a & -a; n != 0 {
		return min(n, most)
	}
	return most
}

// follow holds every instruction of an included part against the fixed build's.
func (c *checker) follow(m *moved) {
	p := m.part
	name := c.patch.Functions[m.fn].Name
	c.at(name, p.start)
	c.report.Proved.Functions++
	want, got := c.fixed.bytes(p.start, p.end-p.start), c.overlay(m.to+overlayBias, p.end-p.start)
	list, _, ok := body(want)
	if !ok {
		c.fault(Bytes, "it is not all instructions")
		return
	}
	for i := range list {
		in := &list[i]
		c.where = p.start + uint64(in.off)
		c.report.Proved.Instructions++
		a, b := c.fixed.plain(p, in, want), c.fixed.plain(p, in, got)
		c.followAbsolute(m, in)
		t := in.Target(c.where)
		inside := in.Relative() && !in.RIP && p.start <= t && t < p.end
		if !in.Relative() || inside {
			if !slices.Equal(a, b) {
				c.fault(Bytes, "% x instead of % x", b, a)
			}
			continue
		}
		at := m.to + overlayBias + uint64(in.off)
		lo, hi := in.DispOff, in.DispOff+in.DispLen
		moved, err := x86.Decode(b)
		field := at + uint64(lo)
		switch {
		case in.DispLen == 1 && slices.Equal(a, b):
			// It may lead over an island, a jmp rel32 beside the code.
			at = in.Target(at)
			if moved, err = c.island(at); err != nil {
				c.fault(Branch, "an 8-bit branch leads to %#x of the overlay: %v", at-overlayBias, err)
				continue
			}
			field = at + uint64(moved.DispOff)
		case err != nil || !slices.Equal(a[:lo], b[:lo]) || !slices.Equal(a[hi:], b[hi:]) || moved.Len != in.Len || in.DispLen != 4:
			c.fault(Bytes, "% x instead of % x", b, a)
			continue
		}
		to := moved.Target(at)
		c.fields[field] = to
		r := c.fixed.refOf(in, t)
		c.heldField(field, to, r.use == address)
		if c.settle(c.leads(t, to, r.use, uint64(r.size), p)) {
			c.report.Proved.References++
		}
	}
	c.ends(m, list)
}

// island reads the jmp rel32 at an address of the overlay that is no code of
// the fixed build.
func (c *checker) island(a uint64) (x86.Inst, error) {
	in, err := x86.Decode(c.overlay(a, islandLen))
	if err != nil || in.Kind != x86.Jmp || in.Len != islandLen {
		return in, errors.New("no jump is there")
	}
	for i := range c.code {
		m := &c.code[i]
		if start := m.to + overlayBias; a < start+m.part.end-m.part.start && start < a+islandLen {
			return in, fmt.Errorf("it belongs to %v", m.part)
		}
	}
	c.islands[a] = true
	return in, nil
}

// heldField makes sure that a field that leads to a new variable, or takes the
// address of new code, says so: a later patch has to find it.
func (c *checker) heldField(at, to uint64, taken bool) {
	l := c.links[at]
	says := l != nil && l.fixup.Kind == patch.RelOverlay
	_, variable := c.variableAt(to)
	entry := taken && slices.ContainsFunc(c.patch.Functions, func(f patch.Function) bool {
		return len(f.Ranges) > 0 && uint64(f.Ranges[0].Start)+overlayBias == to
	})
	if says != (variable || entry) {
		c.fault(Fixup, "its field leads to %#x, which a program may hold: %t, and a fixup says so: %t", to, variable || entry, says)
	}
}

// ends makes sure that a part does not run on behind its end.
func (c *checker) ends(m *moved, list []instruction) {
	for len(list) > 0 && list[len(list)-1].Kind == x86.Nop {
		list = list[:len(list)-1]
	}
	if len(list) == 0 {
		c.fault(Bytes, "no instructions")
		return
	}
	last := &list[len(list)-1]
	switch last.Kind {
	case x86.Jmp, x86.JmpInd, x86.Ret, x86.Trap, x86.Int3, x86.Call, x86.CallInd: // a call may not return
		return
	}
	next := c.fixed.partAt(m.part.end)
	if n := c.in[next]; next == nil || n == nil || n.to != m.to+m.part.end-m.part.start {
		c.where = m.part.start + uint64(last.off)
		c.fault(Branch, "runs on behind its end")
	}
}

// padding makes sure that all executable bytes are code of the patch, its
// islands and linkage stubs, or int3.
func (c *checker) padding() {
	for i := range c.pieces {
		s := &c.pieces[i]
		if s.prot != patch.ReadExec {
			continue
		}
		known := make([]bool, len(s.bytes))
		for k := range c.code {
			m := &c.code[k]
			at := m.to + overlayBias
			if at < s.start || at >= s.end {
				continue
			}
			for k := range m.part.end - m.part.start {
				known[at-s.start+k] = true
			}
		}
		for o := 0; o < len(s.bytes); o++ {
			if known[o] || s.bytes[o] == 0xcc {
				continue
			}
			c.at("overlay", s.start+uint64(o)-overlayBias)
			n := c.stubLen(s, o)
			if c.islands[s.start+uint64(o)] {
				n = islandLen
			}
			if n == 0 {
				c.fault(Padding, "an executable byte %#02x that belongs to no code", s.bytes[o])
				break
			}
			o += n - 1
		}
	}
}

// stubLen is the length of the linkage stub at an offset of a piece, 0 if none is.
func (c *checker) stubLen(s *piece, o int) int {
	a := s.start + uint64(o)
	slot, ok := stubIn(s.bytes[o:], a)
	if l := c.links[slot]; !ok || l == nil || l.fixup.Size() < 8 {
		return 0
	}
	n := 6
	if in, err := x86.Decode(s.bytes[o:]); err == nil && in.Kind == x86.Endbr {
		n += 4
	}
	c.fields[a+uint64(n)-4] = slot
	return n
}
