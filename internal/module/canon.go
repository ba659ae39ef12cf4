package module

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"hotpatch/internal/module/x86"
)

// canon fills in a function's masked body and its references. The masked body
// is what stays the same when a function only moves: its instructions without
// NOPs, displacements that lead out of the function zeroed, and jumps inside
// the function as the index of the instruction they lead to, whatever their
// width. Its hash is SHA-256, cut to 16 bytes.
func (m *Module) canon(f *Func, parts []*part) {
	for _, p := range parts {
		f.Opaque = f.Opaque || p.bad
	}
	if !f.Opaque {
		m.maskAll(f, parts)
	}
	if f.Opaque {
		f.Refs, f.Tables = nil, nil
		h := sha256.New()
		for _, r := range f.Ranges {
			h.Write(m.Bytes(r))
		}
		copy(f.Hash[:], h.Sum(nil))
	}
}

func (m *Module) maskAll(f *Func, parts []*part) {
	index := indexer(parts)
	buf := make([]byte, 0, f.Size()+64)
	var n uint32
	offLoad := -100
	for _, p := range parts {
		code := m.Bytes(p.Range)
		for k := range p.ins {
			c := &p.ins[k]
			if c.kind == uint8(x86.Nop) {
				continue
			}
			if c.flags&insOffLoad != 0 {
				offLoad = k
			}
			if c.flags&insJumpReg != 0 && k-offLoad < 16 {
				f.IndirectJump = true
			}
			buf = m.mask(f, p, code, c, n, index, buf)
			n++
		}
		buf = append(buf, 0xf1) // no instruction starts with icebp here: the end of a part
	}
	f.Insts = int(n)
	sum := sha256.Sum256(buf)
	copy(f.Hash[:], sum[:])
	for _, p := range parts {
		m.tableCandidates(p, func(t Addr) {
			if slices.ContainsFunc(f.Tables, func(j JumpTable) bool { return j.Addr == t }) {
				return
			}
			if jt := m.readTable(t, index); len(jt.Targets) > 0 {
				f.Tables = append(f.Tables, jt)
			}
		})
	}
}

// mask appends one instruction to the masked body and notes its reference.
func (m *Module) mask(f *Func, p *part, code []byte, c *ins, n uint32, index func(Addr) int, buf []byte) []byte {
	raw := code[c.off : c.off+uint32(c.len)]
	from := len(buf)
	if c.relative() {
		buf = m.maskRelative(f, p, code, c, n, index, buf)
	} else {
		buf = append(buf, raw...)
	}
	at := p.Start + Addr(c.off)
	for _, o := range m.absolutesIn(at, c.len) {
		r, ok := m.absoluteRef(at, o, raw)
		if !ok {
			f.Opaque = true
			return buf
		}
		r.Index = n
		f.Refs = append(f.Refs, r)
		clear(buf[from+int(o):][:r.FieldLen]) // what is relative beside it lies before it
	}
	return buf
}

// absoluteRef is the reference of an instruction whose field at offset o holds
// an address: its immediate, or the displacement of a memory operand. Not ok
// when there is no such field.
func (m *Module) absoluteRef(at Addr, o uint8, raw []byte) (Ref, bool) {
	in, _ := x86.Decode(raw)
	r := Ref{
		At: at, Target: m.absolute(at + Addr(o)), Kind: RefAddress, Absolute: true,
		FieldOff: o, FieldLen: m.absolutes[at+Addr(o)], InstLen: in.Len,
	}
	switch lea := in.Map == 0 && in.Opcode == 0x8d && !in.VEX; {
	case o == in.ImmOff && r.FieldLen == in.ImmLen:
	case o != in.DispOff || r.FieldLen != in.DispLen || in.Relative():
		return r, false
	case !lea:
		r.Kind = RefMemory
		if in.HasSIB && in.ModRM>>6 == 0 && in.SIB == 0x25 { // neither base nor index
			r.MemSize = in.MemSize
		}
	}
	return r, true
}

// maskRelative is mask for a branch or a RIP-relative operand.
func (m *Module) maskRelative(f *Func, p *part, code []byte, c *ins, n uint32, index func(Addr) int, buf []byte) []byte {
	raw := code[c.off : c.off+uint32(c.len)]
	t := p.target(code, c)
	own := index(t)
	call := c.kind == uint8(x86.Call)
	switch {
	case c.branch() && own >= 0:
		// jcc rel8 is 7x, jcc rel32 is 0f 8x: one form for both.
		op := raw[c.dispOff-1] & 0x0f
		if c.kind == uint8(x86.Jmp) || c.dispLen == 1 && raw[c.dispOff-1]>>4 != 7 {
			op = 0x80 | raw[0]&0x0f
			if c.kind == uint8(x86.Jmp) {
				op = 0x40
			}
		}
		return binary.LittleEndian.AppendUint32(append(buf, 0x0f, 0x04, op), uint32(own))
	case c.flags&insLEA != 0 && own > 0:
		buf = append(append(buf, raw[:c.dispOff]...), 0x0f, 0x04)
		return binary.LittleEndian.AppendUint32(buf, uint32(own))
	}
	kind := RefMemory
	switch {
	case call:
		kind = RefCall
	case c.branch():
		kind = RefJump
	case c.flags&insLEA != 0:
		kind = RefAddress
	}
	f.Refs = append(f.Refs, Ref{
		At: p.Start + Addr(c.off), Target: t, Index: n, Kind: kind,
		FieldOff: c.dispOff, FieldLen: c.dispLen, InstLen: c.len, MemSize: c.mem,
	})
	buf = append(buf, raw...)
	field := buf[len(buf)-len(raw)+int(c.dispOff):]
	clear(field[:c.dispLen])
	return buf
}

// indexer gives the index among a function's instructions, NOPs not counted,
// of the first one at or after an address that starts an instruction; -1 elsewhere.
func indexer(parts []*part) func(Addr) int {
	base := make([]int, len(parts)+1)
	skip := make([][]uint32, len(parts)) // offsets of NOPs
	for i, p := range parts {
		for k := range p.ins {
			if p.ins[k].kind == uint8(x86.Nop) {
				skip[i] = append(skip[i], p.ins[k].off)
			}
		}
		base[i+1] = base[i] + len(p.ins) - len(skip[i])
	}
	return func(a Addr) int {
		for i, p := range parts {
			if !p.Contains(a) {
				continue
			}
			k := p.boundary(a)
			if k < 0 {
				return -1
			}
			nops := sort.Search(len(skip[i]), func(j int) bool { return skip[i][j] >= p.ins[k].off })
			return base[i] + k - nops
		}
		return -1
	}
}

// readTable reads the jump table at t: all entries that lead to code. Those
// that lead to other code than the function's (a case that cannot happen, or
// a part that was not recognised) are Nowhere. boundTables cuts it where the
// next object starts.
func (m *Module) readTable(t Addr, index func(Addr) int) JumpTable {
	jt := JumpTable{Addr: t}
	for n := Addr(0); n < 1<<16; n++ {
		to, ok := m.offsetEntry(t, n)
		if !ok {
			break
		}
		i := index(to)
		if i < 0 {
			if s := m.SectionAt(to); n == 0 || s == nil || !s.Exec {
				break
			}
			i = Nowhere
		}
		jt.Targets = append(jt.Targets, uint32(i))
	}
	return jt
}

// Entry is where entry i of a jump table leads.
func (m *Module) Entry(t JumpTable, i int) Addr {
	to, _ := m.offsetEntry(t.Addr, Addr(i))
	return to
}

// boundTables ends each jump table where the next address that something refers to starts.
func (m *Module) boundTables() {
	for _, f := range m.Funcs {
		for i := range f.Tables {
			t := &f.Tables[i]
			if n := int(m.NextAnchor(t.Addr)-t.Addr) / 4; n < len(t.Targets) {
				t.Targets = t.Targets[:n]
			}
			m.mark(t.Addr, AnchorTable)
		}
		for i := range f.Refs { // jmp *table(,index,8)
			r := &f.Refs[i]
			if rel, ok := m.RelocAt(r.Target); ok && r.Indexed() {
				if a, _ := rel.Leads(); f.Contains(a) && a != f.Entry() {
					m.mark(r.Target, AnchorTable)
				}
			}
		}
	}
}

// findGaps makes a Func of each stretch of code that no FDE covers and that is not padding.
func (m *Module) findGaps() {
	for i := range m.Sections {
		s := &m.Sections[i]
		if !s.Exec || s.isPLT() {
			continue
		}
		at := s.Start
		lo := sort.Search(len(m.spans), func(i int) bool { return m.spans[i].End > s.Start })
		for ; lo < len(m.spans) && m.spans[lo].Start < s.End; lo++ {
			m.addGap(Range{at, m.spans[lo].Start})
			at = m.spans[lo].End
		}
		m.addGap(Range{at, s.End})
	}
	for _, g := range m.Gaps {
		for k, r := range g.Ranges {
			m.spans = append(m.spans, span{r, g, k})
		}
	}
	m.sortSpans()
}

func (m *Module) addGap(r Range) {
	code := m.Bytes(r)
	r.Start += Addr(Padding(code))
	if r.Start >= r.End || code == nil {
		return
	}
	p := part{Range: r}
	m.decode(&p)
	for n := len(p.ins); n > 0 && !p.bad; n-- {
		last := &p.ins[n-1]
		if last.kind != uint8(x86.Nop) && last.kind != uint8(x86.Int3) {
			break
		}
		p.End, p.ins = p.Start+Addr(last.off), p.ins[:n-1]
	}
	g := &Func{Ranges: []Range{p.Range}, Gap: true, id: -1, Name: fmt.Sprintf("gap_%x", uint64(r.Start))}
	m.canon(g, []*part{&p})
	m.dropEndOfData(g)
	m.Gaps = append(m.Gaps, g)
}

// dropEndOfData forgets the addresses in a gap that mean the end of .data, not
// the object that happens to lie there: GCC's start code (crtstuff.c,
// register_tm_clones and deregister_tm_clones) compares __TMC_LIST__ with
// __TMC_END__, both of them the end of an empty table of 8-byte alignment that
// is linked behind .data.
func (m *Module) dropEndOfData(g *Func) {
	data := m.Section(".data")
	if data == nil {
		return
	}
	end := (data.End + 7) &^ 7
	ends := func(i int) bool {
		return i >= 0 && i < len(g.Refs) && g.Refs[i].Kind == RefAddress && g.Refs[i].Target == end
	}
	kept := make([]Ref, 0, len(g.Refs))
	for i := range g.Refs {
		if !ends(i) || !ends(i-1) && !ends(i+1) {
			kept = append(kept, g.Refs[i])
		}
	}
	g.Refs = kept
}

// Padding is the number of leading bytes of code that are alignment: NOPs, int3 and zeros.
func Padding(code []byte) int {
	o := 0
	for o < len(code) {
		if code[o] == 0 {
			o++
			continue
		}
		in, err := x86.Decode(code[o:])
		if err != nil || in.Kind != x86.Nop && in.Kind != x86.Int3 {
			break
		}
		o += int(in.Len)
	}
	return o
}

// Text is the NUL-terminated text at a, without the NUL; empty when a does not
// lead to printable ASCII. It may run over addresses that something refers to,
// since linkers let one string end in another.
func (m *Module) Text(a Addr) string {
	const longest = 1 << 16
	s := m.SectionAt(a)
	if s == nil || s.NoBits {
		return ""
	}
	b := m.Bytes(Range{a, min(s.End, a+longest)})
	for i, ch := range b {
		if ch == 0 {
			if len(m.RelocsIn(Range{a, a + Addr(i)})) > 0 {
				return "" // a pointer of a program at a fixed address
			}
			return string(b[:i])
		}
		if (ch < 0x20 || ch > 0x7e) && ch != '\n' && ch != '\t' && ch != '\r' && ch != 0x1b {
			return ""
		}
	}
	return ""
}
