package check

import (
	"encoding/binary"
	"fmt"
	"sort"

	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
)

func num(a uint64) string { return fmt.Sprintf("%#x", a) }

// offset reads the 32-bit number at the start of b.
func offset(b []byte) (uint64, bool) {
	if len(b) < 4 {
		return 0, false
	}
	return uint64(int64(int32(binary.LittleEndian.Uint32(b)))), true
}

// family reports whether code at a belongs to the function that p belongs to:
// to p, to another part of the same included function, or to a part that p
// branches into.
func (c *checker) family(p *part, a uint64) bool {
	if p.start <= a && a < p.end {
		return true
	}
	q := c.fixed.partAt(a)
	if q == nil || q.gap {
		return false
	}
	if m, n := c.in[p], c.in[q]; m != nil && n != nil {
		return m.fn == n.fn
	}
	for i := range p.refs {
		if r := &p.refs[i]; r.use == flow && q.start <= r.target && r.target < q.end {
			return true
		}
	}
	return false
}

// isTable reports whether a part jumps through a table of offsets at w: one of
// its first entries leads back into the function, and all before it to code, as
// those to parts that only the table leads to.
func (c *checker) isTable(p *part, w uint64) bool {
	const first = 16
	for n := uint64(0); w%4 == 0 && n < first; n++ {
		e, ok := offset(c.fixed.bytes(w+4*n, 4))
		s := c.fixed.section(w + e)
		if !ok || e == 0 || s == nil || !s.exec {
			return false
		}
		if c.family(p, w+e) {
			return true
		}
	}
	return false
}

// starts reports whether an instruction of the fixed build starts at a.
func (c *checker) starts(a uint64) bool {
	p := c.fixed.partAt(a)
	if p == nil {
		return false
	}
	list := c.bodyOf(c.fixed, p)
	i := sort.Search(len(list), func(i int) bool { return p.start+uint64(list[i].off) >= a })
	return i < len(list) && p.start+uint64(list[i].off) == a
}

// table answers for a jump table, entry by entry.
func (c *checker) table(q *question) outcome {
	end, need := c.fixed.next(q.want), c.cases(q.own, q.want)
	n := uint64(0)
	for ; ; n++ {
		e, ok := offset(c.fixed.bytes(q.want+4*n, 4))
		to := q.want + e
		if s := c.fixed.section(to); !ok || s == nil || !s.exec {
			break
		}
		if q.want+4*n+4 > end && (n >= need || !c.family(q.own, to)) {
			break
		}
		g, ok := offset(c.memory(q.got+4*n, 4))
		if !ok {
			return bad(JumpTable, "entry %d of the table at %#x is missing", n, q.want)
		}
		switch o := c.ask(question{to, q.got + g, flow, 0, nil, q.stays}); {
		case o.state == proved:
			c.report.Proved.TableEntries++
		case !c.family(q.own, to), n >= need && !c.starts(to):
			// What follows the table, or a case that cannot happen.
			if need > 0 && n >= need {
				return outcome{}
			}
			return unsure(JumpTable, "entry %d of the table at %#x leads out of the function", n, q.want)
		default:
			o.code, o.detail = JumpTable, fmt.Sprintf("entry %d of the table at %#x: %s", n, q.want, o.detail)
			return o
		}
	}
	if n < need {
		return unsure(JumpTable, "%d entries of the table at %#x were found, %d are asked for", n, q.want, need)
	}
	return outcome{}
}

// cases is how many entries of the table at w the code of p lets through: the
// comparison before the jump says it (cmp $n; ja), 0 where it is not seen.
func (c *checker) cases(p *part, w uint64) uint64 {
	const reach = 24
	list := c.bodyOf(c.fixed, p)
	for i := range list {
		in := &list[i]
		if !in.RIP || in.Target(p.start+uint64(in.off)) != w {
			continue
		}
		index := indexOfTable(list[i+1:])
		for k := i - 1; k > 0 && k > i-reach; k-- {
			if list[k].Kind != x86.Jcc || condition(&list[k]) != 7 { // ja
				continue
			}
			if cmp := &list[k-1]; compared(cmp) == index && index >= 0 {
				if cmp.Opcode == 0x3c || cmp.Opcode == 0x80 { // of a byte, and unsigned
					return uint64(uint8(cmp.Imm)) + 1
				}
				return uint64(uint32(cmp.Imm)) + 1
			}
			break
		}
	}
	return 0
}

// indexOfTable is the register that the next load of an offset from a table is
// indexed by (movslq (base,index,4)), or -1.
func indexOfTable(list []instruction) int {
	for i := range list[:min(len(list), 6)] {
		in := &list[i]
		if in.Map == 0 && in.Opcode == 0x63 && in.HasSIB && in.SIB>>6 == 2 {
			return int(in.SIB>>3&7 | in.REX&2<<2)
		}
		if in.Map == 0 && (in.Opcode == 0x89 || in.Opcode == 0x8b) {
			return -1 // the index may be another number than the one compared
		}
	}
	return -1
}

// compared is the register that an instruction compares with a number, or -1.
func compared(in *instruction) int {
	switch {
	case in.Map != 0 || in.VEX || in.ImmLen == 0:
	case in.Opcode == 0x3c || in.Opcode == 0x3d:
		return 0
	case in.Opcode >= 0x80 && in.Opcode <= 0x83 && in.ModRM>>3&7 == 7 && in.ModRM >= 0xc0:
		return int(in.ModRM&7 | in.REX&1<<3)
	}
	return -1
}

// bodyOf decodes a part; a few are kept.
func (c *checker) bodyOf(m *image, p *part) []instruction {
	const most = 256
	if l, ok := c.bodies[p]; ok {
		return l
	}
	if c.bodies == nil || len(c.bodies) > most {
		c.bodies = make(map[*part][]instruction)
	}
	l, _, ok := body(m.bytes(p.start, p.end-p.start))
	if !ok {
		l = nil
	}
	c.bodies[p] = l
	return l
}

// offsets answers for a constant that starts like a table of offsets from its
// own address to texts or functions, as clang makes them.
func (c *checker) offsets(q *question) outcome {
	if q.use != address {
		return outcome{}
	}
	end := c.fixed.next(q.want)
	var list []uint64
	for a := q.want; a+4 <= end; a += 4 {
		e, _ := offset(c.fixed.bytes(a, 4))
		if e == 0 || !c.startsSomething(q.want+e) || q.want+e >= q.want && q.want+e < end {
			break
		}
		list = append(list, e)
	}
	if len(list) < 2 { // one alone may be a number
		return outcome{}
	}
	for i, e := range list {
		g, _ := offset(c.memory(q.got+4*uint64(i), 4))
		if o := c.ask(question{q.want + e, q.got + g, address, 0, nil, q.stays}); o.state != proved {
			o.code, o.detail = Constant, fmt.Sprintf("offset %d of the table at %#x: %s", i, q.want, o.detail)
			return o
		}
	}
	return outcome{}
}

// startsSomething reports whether a text or a function starts at a.
func (c *checker) startsSomething(a uint64) bool {
	s := c.fixed.section(a)
	switch {
	case s == nil || s.write:
		return false
	case s.exec:
		p := c.fixed.partAt(a)
		return p != nil && p.start == a
	}
	before := c.fixed.bytes(a-1, 1)
	return before != nil && before[0] == 0 && len(c.fixed.text(a)) > 1
}

// labelTable is the table of pointers to labels of the function that a part
// belongs to (computed goto), if that is what it takes the address of.
func (c *checker) labelTable(q *question) []*reloc {
	if q.use != address || q.own == nil || q.stays {
		return nil
	}
	var out []*reloc
	for a := q.want; a == q.want || a < c.fixed.next(q.want); a += 8 {
		i, ok := c.fixed.relocAt[a]
		if !ok {
			break
		}
		r := &c.fixed.relocs[i]
		to, local := r.leads()
		if p := c.fixed.partAt(to); !local || p == nil || to == p.start || !c.family(q.own, to) {
			break
		}
		out = append(out, r)
	}
	return out
}

// labelsAt answers for a table of labels, pointer by pointer: a copy of its own
// leads into the overlay. That nothing else uses it is not proved.
func (c *checker) labelsAt(q *question, labels []*reloc) outcome {
	p := c.pieceAt(q.got)
	if p == nil || p.prot != patch.ReadOnly || q.got%8 != 0 {
		return bad(JumpTable, "leads to %s, not to a copy of the table of labels at %#x", c.nameOf(q.got), q.want)
	}
	for i, r := range labels {
		at := q.got + 8*uint64(i)
		l, b := c.links[at], c.overlay(at, 8)
		if l == nil || b == nil || l.fixup.Kind != patch.AbsOverlay {
			return bad(JumpTable, "label %d of the table at %#x has no fixup", i, q.want)
		}
		l.used = true
		to, _ := r.leads()
		if o := c.ask(question{to, binary.LittleEndian.Uint64(b), flow, 0, nil, false}); o.state != proved {
			o.code, o.detail = JumpTable, fmt.Sprintf("label %d of the table at %#x: %s", i, q.want, o.detail)
			return o
		}
		c.report.Proved.TableEntries++
	}
	return unsure(JumpTable, "the table of labels at %#x is a copy: that nothing else uses it is not proved", q.want)
}
