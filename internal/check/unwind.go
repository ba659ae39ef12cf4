package check

import (
	"bytes"
	"encoding/binary"
	"slices"

	"hotpatch/internal/patch"
)

// unwind holds the overlay's unwind tables against the frames of the fixed build.
func (c *checker) unwind() {
	c.at("unwind tables", uint64(c.patch.EHFrameHdr))
	if c.patch.EHFrameHdr == 0 {
		if len(c.code) > 0 {
			c.fault(Unwind, "there are none")
		}
		return
	}
	got, ok := c.readHeader(uint64(c.patch.EHFrameHdr) + overlayBias)
	if !ok {
		return
	}
	if len(got) != len(c.code) {
		c.fault(Unwind, "%d ranges, %d are in the overlay", len(got), len(c.code))
	}
	for i := range c.code {
		m := &c.code[i]
		c.at(m.part.String(), m.part.start)
		f := got[m.to+overlayBias]
		if f == nil {
			c.fault(Unwind, "its range in the overlay has none")
			continue
		}
		before := len(c.report.Faults) + len(c.report.Unproved)
		c.sameFrame(m.part.frame, f, m)
		if len(c.report.Faults)+len(c.report.Unproved) == before {
			c.report.Proved.Frames++
		}
	}
}

// readHeader reads .eh_frame_hdr (LSB 5.0 Core, 10.6.2) and the frames that it
// leads to, by start.
func (c *checker) readHeader(at uint64) (map[uint64]*frame, bool) {
	p := c.pieceAt(at)
	if p == nil || p.prot != patch.ReadOnly || p.end-at < 12 {
		c.fault(Unwind, "they lie in no read-only piece")
		return nil, false
	}
	r := reader{b: p.bytes[at-p.start:], at: at}
	if form := r.u32(); form != 0x3b031b01 { // version 1, relative pointer, count, sorted table
		c.fault(Unwind, "a header of the form %08x", form)
		return nil, false
	}
	from := r.pointer(0x1b)
	n := uint64(r.u32())
	table := r.take(min(8*n, uint64(len(r.b))+1))
	if r.fail || from < p.start || from >= p.end {
		c.fault(Unwind, "the header leads out of its piece")
		return nil, false
	}
	frames, err := readFrames(p.bytes[from-p.start:], from)
	if err != nil {
		c.fault(Unwind, "%v", err)
		return nil, false
	}
	byPlace := make(map[uint64]*frame)
	for _, f := range frames {
		byPlace[f.at] = f
	}
	out := make(map[uint64]*frame)
	last := uint64(0)
	for ; len(table) >= 8; table = table[8:] {
		start := at + uint64(int64(int32(binary.LittleEndian.Uint32(table))))
		f := byPlace[at+uint64(int64(int32(binary.LittleEndian.Uint32(table[4:]))))]
		if f == nil || f.start != start || start <= last {
			c.fault(Unwind, "the entry for %#x of the overlay leads elsewhere, or is not in order", start-overlayBias)
			continue
		}
		last = start
		out[start] = f
	}
	return out, true
}

// sameFrame compares the frames of one range.
func (c *checker) sameFrame(want, got *frame, m *moved) {
	a, b := want.cie, got.cie
	switch {
	case !got.form.like(want.form) || !b.form.like(a.form):
		c.fault(Unwind, "an entry of %d bytes, with a CIE of %d", got.form.size, b.form.size)
	case got.end-got.start != want.end-want.start:
		c.fault(Unwind, "%d bytes instead of %d", got.end-got.start, want.end-want.start)
	case a.codeAlign != b.codeAlign || a.dataAlign != b.dataAlign || a.ra != b.ra || a.signal != b.signal:
		c.fault(Unwind, "another kind of frame")
	case !bytes.Equal(a.rules, b.rules) || !bytes.Equal(want.rules, got.rules):
		c.fault(Unwind, "other rules")
	case a.pers == 0 != (b.pers == 0) || a.pers != 0 && a.persEnc&encIndirect != b.persEnc&encIndirect:
		c.fault(Unwind, "another form of personality")
	case want.lsda == 0 != (got.lsda == 0):
		c.fault(Exceptions, "there is one where the other has none")
	default:
		if a.pers != 0 {
			c.fields[b.persAt] = b.pers
			c.settleAs(Unwind, c.pointee(a.pers, b.pers, a.persEnc&encIndirect != 0, false))
		}
		if want.lsda != 0 {
			c.sameHandlers(want, got, m)
		}
	}
}

// settleAs notes an outcome under another code.
func (c *checker) settleAs(code Code, o outcome) {
	o.code = code
	c.settle(o)
}

// pointee answers whether two pointers of unwind tables mean the same; with
// slot both lead to a slot that the loader fills.
func (c *checker) pointee(want, got uint64, slot, stays bool) outcome {
	i, ok := c.fixed.relocAt[want]
	if !slot || !ok {
		return c.ask(question{want, got, address, 0, nil, stays})
	}
	r := &c.fixed.relocs[i]
	o, inBase := c.inBaseline(got)
	if !inBase {
		return c.newSlot(r, &question{want, got, address, 0, nil, false})
	}
	k, ok := c.old.relocAt[o]
	if !ok {
		return bad(Import, "leads to %#x, which the loader does not fill, for %s", o, r.sym)
	}
	b := &c.old.relocs[k]
	if r.sym == "" && b.sym == "" && r.typ == b.typ {
		return c.ask(question{uint64(r.addend), uint64(b.addend) + baseBias, address, 0, nil, stays})
	}
	if r.sym != b.sym || r.version != b.version || r.addend != b.addend {
		return bad(Import, "leads to the slot of %s for %s", b.sym, r.sym)
	}
	return outcome{}
}

// sameHandlers compares the exception tables of an included range.
func (c *checker) sameHandlers(want, got *frame, m *moved) {
	a, err := readHandlers(c.readerAt(c.fixed, want.lsda))
	if err != nil {
		c.unproved(Exceptions, "the fixed build's: %v", err)
		return
	}
	p := c.pieceAt(got.lsda)
	if p == nil || p.prot != patch.ReadOnly {
		c.fault(Exceptions, "it lies in no read-only piece")
		return
	}
	b, err := readHandlers(reader{b: p.bytes[got.lsda-p.start:], at: got.lsda})
	if err != nil {
		c.fault(Exceptions, "%v", err)
		return
	}
	for _, s := range b.sites {
		if s.pad >= m.part.end-m.part.start {
			c.fault(Exceptions, "a landing pad lies outside its range")
		}
	}
	for i, o := range c.compareHandlers(a, b, false) {
		if i > 0 && b.types[i-1].value != 0 {
			c.fields[b.types[i-1].at] = b.types[i-1].value
		}
		if o.code = Exceptions; c.settle(o) && i > 0 {
			c.report.Proved.Types++
		}
	}
	if a.based {
		c.unproved(Exceptions, "its landing pads do not count from the start of the range")
	}
}

// compareHandlers answers for an exception table, and then for each of its types.
func (c *checker) compareHandlers(a, b *handlers, stays bool) []outcome {
	same := bytes.Equal(a.specs, b.specs) && a.typeEnc == b.typeEnc && len(a.types) == len(b.types) && a.based == b.based
	if !same || !slices.EqualFunc(a.sites, b.sites, func(x, y site) bool {
		return x.start == y.start && x.size == y.size && x.pad == y.pad && slices.Equal(a.filters[x.action], b.filters[y.action])
	}) {
		return []outcome{bad(Exceptions, "it is another one")}
	}
	out := []outcome{{}}
	for i := range a.types {
		x, y := a.types[i].value, b.types[i].value
		switch {
		case x == 0 && y == 0:
			out = append(out, outcome{})
		case x == 0 || y == 0:
			out = append(out, bad(Exceptions, "type %d catches everything in one of the two", i+1))
		default:
			o := c.pointee(x, y, a.typeEnc&encIndirect != 0, stays)
			o.code = Exceptions
			out = append(out, o)
		}
	}
	return out
}

func (c *checker) readerAt(m *image, a uint64) reader {
	s := m.section(a)
	if s == nil || s.nobits {
		return reader{at: a}
	}
	return reader{b: m.bytes(a, s.end-a), at: a}
}
