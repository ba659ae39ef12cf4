package check

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
)

// question is asked once: does an address of the process mean what one of the
// fixed build does?
type question struct {
	want, got uint64
	use       use
	size      uint64
	own       *part // whose jump tables it may be; nil for anyone
	stays     bool
}

// leads answers it, for a reference of code or data in the overlay.
func (c *checker) leads(want, got uint64, how use, size uint64, own *part) outcome {
	return c.ask(question{want, got, how, size, own, false})
}

// ask answers a question. Of one that is being answered already it says yes:
// two graphs are the same when no difference is found.
func (c *checker) ask(q question) outcome {
	if !q.own.hasTables() {
		q.own = nil
	}
	if o, ok := c.asked[q]; ok {
		return o
	}
	c.asked[q] = outcome{}
	o := c.answer(&q)
	c.asked[q] = o
	return o
}

func (p *part) hasTables() bool { return p != nil && p.jumps }

func (c *checker) answer(q *question) outcome {
	if slot, ok := c.fixed.stub(q.want); ok {
		return c.stub(slot, q)
	}
	s := c.fixed.section(q.want)
	switch {
	case s == nil:
		return c.beyond(q)
	case s.exec:
		return c.codeAt(q)
	}
	if i, ok := c.fixed.relocAt[q.want]; ok && (slotKey(c.fixed, q.want) != "" || s.name == ".got" || s.name == ".got.plt") {
		return c.slot(&c.fixed.relocs[i], q)
	}
	if labels := c.labelTable(q); len(labels) > 0 {
		return c.labelsAt(q, labels)
	}
	if s.write {
		return c.variable(q, s)
	}
	return c.constant(q, s)
}

// inBaseline is the baseline's address of a place in the process.
func (c *checker) inBaseline(a uint64) (uint64, bool) {
	if c.pieceAt(a) != nil || a < baseBias {
		return 0, false
	}
	for i := range c.old.loads {
		if p := &c.old.loads[i]; a-baseBias >= p.Vaddr && a-baseBias <= p.Vaddr+p.Memsz {
			return a - baseBias, true
		}
	}
	return 0, false
}

// beyond answers for an address behind the end of a section.
func (c *checker) beyond(q *question) outcome {
	o, ok := c.inBaseline(q.got)
	if !ok {
		return bad(Variable, "leads to %#x of the overlay, not to the end of a section", q.got-overlayBias)
	}
	known := false
	for _, key := range c.fixed.labels[q.want] {
		for a, keys := range c.old.labels {
			for _, k := range keys {
				known = known || k == key
				if a == o && k == key {
					return outcome{}
				}
			}
		}
	}
	for i := range c.fixed.sections {
		s := &c.fixed.sections[i]
		if so := c.old.sectionNamed(s.name); so != nil && s.end == q.want {
			if so.end == o {
				return outcome{}
			}
			known = true
		}
	}
	if same, ok := c.behind(q.want, o); ok && same {
		return outcome{}
	}
	if known {
		return bad(Variable, "leads to %#x, not to the end of the same section", o)
	}
	return unsure(Variable, "leads to %#x, outside all sections", o)
}

// behind reports whether two addresses outside all sections follow the same
// section, by as much as alignment explains.
func (c *checker) behind(n, o uint64) (same, known bool) {
	last := func(m *image, a uint64) (s *section) {
		for i := range m.sections {
			if x := &m.sections[i]; x.end <= a && (s == nil || x.end >= s.end) {
				s = x
			}
		}
		return s
	}
	x, y := last(c.fixed, n), last(c.old, o)
	if x == nil || y == nil || c.old.section(o) != nil {
		return false, false
	}
	return x.name == y.name && n-x.end < 64 && n-x.end == o-y.end, true
}

// stub answers for a linkage stub, whose slot in the fixed build is slot.
func (c *checker) stub(slot uint64, q *question) outcome {
	i, ok := c.fixed.relocAt[slot]
	if !ok {
		return bad(Import, "the stub at %#x has no symbol", q.want)
	}
	next := *q
	next.want = slot
	if o, ok := c.inBaseline(q.got); ok {
		s, ok := c.old.stub(o)
		if !ok || startsBefore(c.old.bytes(o-4, 4)) {
			return bad(Import, "leads to %#x of the baseline, which is not a stub for %s", o, c.fixed.relocs[i].sym)
		}
		next.got = s + baseBias
	} else {
		s, ok := c.overlayStub(q.got)
		if !ok {
			return bad(Import, "leads to %#x of the overlay, which is not a stub for %s", q.got-overlayBias, c.fixed.relocs[i].sym)
		}
		next.got = s
	}
	return c.slot(&c.fixed.relocs[i], &next)
}

// overlayStub is the slot of a linkage stub in the overlay.
func (c *checker) overlayStub(a uint64) (uint64, bool) {
	p := c.pieceAt(a)
	if p == nil || p.prot != patch.ReadExec {
		return 0, false
	}
	if c.stubLen(p, int(a-p.start)) == 0 || startsBefore(c.overlay(a-4, 4)) {
		return 0, false
	}
	return stubIn(p.bytes[a-p.start:], a)
}

// startsBefore reports whether what lies before an address is the start of a
// stub, so that the address is in the middle of it.
func startsBefore(b []byte) bool {
	in, err := x86.Decode(b)
	return err == nil && in.Kind == x86.Endbr
}

// slot answers for a slot that the loader fills.
func (c *checker) slot(r *reloc, q *question) outcome {
	key := slotKey(c.fixed, r.at)
	o, ok := c.inBaseline(q.got)
	if !ok {
		return c.newSlot(r, q)
	}
	i, ok := c.old.relocAt[o]
	if !ok {
		return bad(Import, "uses %#x of the baseline, which the loader does not fill, for %s", o, key)
	}
	b := &c.old.relocs[i]
	switch {
	case key != slotKey(c.old, o) || key == "" && r.typ != b.typ:
		return bad(Import, "uses the slot of %s%s for %s", b.typ, slotKey(c.old, o), key)
	case key == "":
		return c.ask(question{uint64(r.addend), uint64(b.addend) + baseBias, address, 0, nil, q.stays})
	case r.typ == elf.R_X86_64_GLOB_DAT && b.typ == elf.R_X86_64_JMP_SLOT && c.old.lazy && !q.stays:
		return unsure(Import, "the address of %s is taken from a slot that the loader may not have filled yet", r.sym)
	}
	return outcome{}
}

// newSlot answers for a slot of the overlay.
func (c *checker) newSlot(r *reloc, q *question) outcome {
	l := c.links[q.got]
	b := c.overlay(q.got, 8)
	if l == nil || b == nil || l.fixup.Size() < 8 {
		return bad(Import, "uses %#x, which no fixup fills", q.got-overlayBias)
	}
	l.used = true
	if to, local := r.leads(); local && l.fixup.Kind != patch.AbsImport {
		return c.ask(question{to, binary.LittleEndian.Uint64(b), address, 0, nil, false})
	}
	switch r.typ {
	case elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT, elf.R_X86_64_64:
	default:
		return bad(Import, "a new slot stands for %v", r.typ)
	}
	if n := int64(binary.LittleEndian.Uint64(b)); l.fixup.Kind != patch.AbsImport || n != r.addend {
		return bad(Import, "the slot for %s%+d holds an address, or %+d", r.sym, r.addend, n)
	}
	if i := c.patch.Imports[l.fixup.Import]; i.Name != r.sym || i.Version != r.version {
		return bad(Import, "imports %s@%s for %s@%s", i.Name, i.Version, r.sym, r.version)
	}
	return outcome{}
}

// codeAt answers for an address of code.
func (c *checker) codeAt(q *question) outcome {
	p := c.fixed.partAt(q.want)
	o, inBase := c.inBaseline(q.got)
	if p == nil {
		if s, so := c.fixed.section(q.want), c.old.section(o); inBase && so != nil && so.name == s.name && o-so.start == q.want-s.start {
			return unsure(Branch, "leads to %#x, code that nothing describes", q.want)
		}
		return bad(Branch, "leads elsewhere than to %#x, code that nothing describes", q.want)
	}
	off := q.want - p.start
	m, old := c.in[p], c.pairs.old[p]
	if m != nil && !q.stays && (q.use != address || off != 0 || old == nil) {
		if f := &c.patch.Functions[m.fn]; inBase && off == 0 && old == nil && f.Steered && o == uint64(f.Old) {
			return unsure(Branch, "takes the address of %s, which the patch steers to %v", c.nameOf(q.got), p)
		}
		if q.got != m.to+overlayBias+off {
			return bad(Branch, "leads to %s, not to %v+%#x in the overlay", c.nameOf(q.got), p, off)
		}
		if q.use == address && off > 0 {
			return unsure(Branch, "takes the address of a label of %v: what is kept of such leads into the baseline's", p)
		}
		if q.use == address {
			c.escapes[0] = true
			if (!c.old.named || !c.fixed.named) && !c.isNew(p) {
				return unsure(Branch, "takes the address of %v, which seems to be new", p)
			}
		}
		return outcome{}
	}
	switch {
	case !inBase:
		return bad(Branch, "leads to %s, not to the baseline's %v", c.nameOf(q.got), p)
	case old == nil:
		return unsure(Branch, "leads to %s of the baseline as %v", c.nameOf(q.got), p)
	}
	same := o == old.start
	if off != 0 {
		same = c.sameOffset(old, p, o-old.start, off)
	}
	switch {
	case !same:
		if c.pairs.guessed(p) {
			return unsure(Branch, "leads to %s, for %v", c.nameOf(q.got), p)
		}
		return bad(Branch, "leads to %s, not to the baseline's %v at %#x", c.nameOf(q.got), p, old.start+off)
	case c.pairs.by[p] == byPlace:
		return unsure(Branch, "leads to %v, of which only its place says that it is the same", p)
	}
	return outcome{}
}

// sameOffset reports whether the same instruction of two parts that are equal,
// numbers apart, lies at the two offsets.
func (c *checker) sameOffset(o, n *part, offO, offN uint64) bool {
	if offO >= o.end-o.start {
		return false
	}
	if offO == offN && bytes.Equal(c.old.bytes(o.start, o.end-o.start), c.fixed.bytes(n.start, n.end-n.start)) {
		return true // also where no instruction seems to start: glibc's frame of __restore_rt begins one byte before it
	}
	if o.hash != n.hash {
		if _, ok := c.onlyNumbers(o, n); !ok {
			return false
		}
	}
	a, b := c.bodyOf(c.old, o), c.bodyOf(c.fixed, n)
	if a == nil || b == nil {
		return offO == offN
	}
	i, j := indexOf(a, offO), indexOf(b, offN)
	return i == j && i >= 0
}

// nameOf names an address of the process for people.
func (c *checker) nameOf(a uint64) string {
	if o, ok := c.inBaseline(a); ok {
		if p := c.old.partAt(o); p != nil && p.name != "" {
			return p.name + " of the baseline"
		}
		return num(o) + " of the baseline"
	}
	for i := range c.code {
		m := &c.code[i]
		if off := a - overlayBias - m.to; off < m.part.end-m.part.start {
			return m.part.String() + "+" + num(off) + " in the overlay"
		}
	}
	return num(a-overlayBias) + " of the overlay"
}

// variable answers for writable data.
func (c *checker) variable(q *question, s *section) outcome {
	w := c.data.find(q.want)
	o, ok := c.inBaseline(q.got)
	if !ok {
		return c.freshVariable(q, s, &w)
	}
	for _, end := range w.ends {
		if o == end && q.use == address {
			if w.sure && w.addr != o {
				return unsure(Variable, "takes an address that is the end of one object and the start of another")
			}
			return outcome{}
		}
	}
	switch {
	case w.sure && o == w.addr:
		return outcome{}
	case w.sure:
		return bad(Variable, "leads to %#x, not to %#x: %s", o, w.addr, w.why)
	case w.fresh:
		return bad(Variable, "leads to %#x: %s", o, w.why)
	}
	for _, k := range c.data.split[q.want] {
		if k == o {
			return unsure(Variable, "leads to %#x: unchanged code disagrees what %#x is", o, q.want)
		}
	}
	for _, k := range w.near {
		if k == o {
			return unsure(Variable, "leads to %#x: %s", o, w.why)
		}
	}
	if len(w.near) > 0 || c.data.split[q.want] != nil {
		return bad(Variable, "leads to %#x, where nothing around %#x is", o, q.want)
	}
	return unsure(Variable, "leads to %#x: %s", o, w.why)
}

// constant answers for read-only data.
func (c *checker) constant(q *question, s *section) outcome {
	if q.use == address && q.own != nil && c.isTable(q.own, q.want) {
		return c.table(q)
	}
	want, exact := c.extent(q)
	got := c.numbersAt(q.got, uint64(len(want)))
	o, inBase := c.inBaseline(q.got)
	if inBase {
		if so := c.old.section(o); so == nil || so.write || so.exec {
			return bad(Constant, "leads to %#x of the baseline, which is not constant", o)
		}
	} else if p := c.pieceAt(q.got); p == nil || p.prot != patch.ReadOnly {
		return bad(Constant, "leads to %#x, which is not constant", q.got-overlayBias)
	}
	if len(want) == 0 {
		return unsure(Constant, "leads to %#x, where the fixed build's file has nothing", q.want)
	}
	if !bytes.Equal(want, got) {
		return bad(Constant, "%d bytes are %.60q, not %.60q", len(want), got, want)
	}
	if o := c.samePointers(q, uint64(len(want))); o.state != proved {
		return o
	}
	if h := uint64(c.patch.Header) + overlayBias; !inBase && q.got < h+c.patch.HeaderLen && h < q.got+max(1, uint64(len(want))) {
		return bad(Constant, "leads into the room for the header")
	}
	if n := c.alignment(q); !inBase && q.got%n != 0 {
		return bad(Constant, "%#x is not aligned to %d", q.got, n)
	}
	if !inBase {
		c.copies = append(c.copies, copied{q.got, q.want})
		c.escapes[1] = c.escapes[1] || q.use == address
	}
	if w := c.data.find(q.want); q.use == address && w.sure && c.fixed.text(q.want) == nil && (!inBase || w.addr != o) && c.sameConstant(w.addr, want) {
		if inBase {
			return bad(Constant, "leads to %#x, another constant of the same content: it is %#x", o, w.addr)
		}
		return unsure(Constant, "leads to a copy, although the baseline has the same at %#x", w.addr)
	}
	if o := c.offsets(q); o.state != proved {
		return o
	}
	if !exact {
		return unsure(Constant, "%d bytes are the same; what follows differs, and no name says where it ends", len(want))
	}
	return outcome{}
}

func (c *checker) sameConstant(o uint64, want []byte) bool {
	return bytes.Equal(c.old.numbers(o, uint64(len(want))), want)
}

// alignment is what a user of a constant may rely on.
func (c *checker) alignment(q *question) uint64 {
	const most = 32 // of an object that is not used at once
	n := uint64(1)
	switch {
	case q.use != address:
		for n*2 <= q.size && n < 64 {
			n *= 2
		}
	case c.fixed.text(q.want) == nil:
		n = min(most, c.fixed.section(q.want).align)
	}
	return align(q.want, n)
}

// extent is what the fixed build has at a constant, as far as it certainly
// belongs to it, and whether that is known to be all of it.
func (c *checker) extent(q *question) ([]byte, bool) {
	if q.use == access && q.size > 0 {
		return c.fixed.numbers(q.want, q.size), true
	}
	var end uint64
	for _, x := range c.fixed.objectsAt(q.want) {
		end = max(end, x.end)
	}
	if b := c.fixed.numbers(q.want, end-q.want); end > q.want && b != nil {
		return b, true
	}
	text := c.fixed.text(q.want)
	all := c.fixed.numbers(q.want, c.fixed.next(q.want)-q.want)
	used := bytes.TrimRight(all, "\x00")
	if list := c.fixed.relocsIn(q.want, q.want+uint64(len(all))); len(list) > 0 { // they are zeros here
		used = all[:min(len(all), max(len(used), int(list[len(list)-1].at+8-q.want)))]
	}
	if len(all)-len(used) >= 64 { // more than alignment explains
		used = all
	}
	same := func(b []byte) bool {
		n := uint64(len(b))
		return n > 0 && bytes.Equal(c.numbersAt(q.got, n), b) && c.placedAlike(q, n)
	}
	switch {
	case len(text) > 0 && len(text) >= len(used):
		return text, true
	case same(all):
		return all, true
	case same(used):
		return used, true
	case len(text) > 0:
		return text, false
	case len(used) == 0:
		return all[:min(len(all), 8)], false
	}
	return used, true
}
