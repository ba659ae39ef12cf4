package diff

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// judgeOrder refuses when two accesses that differ in their offset only come
// in the other order, with the register they move changed in between: not the
// order changed, but the places of the two fields.
func (c *comparer) judgeOrder(o, n *module.Func) {
	olds, news := sequences(c.body(c.Old, o)), sequences(c.body(c.New, n))
	for k, in := range news {
		back := [2]uint64{k[1], k[0]}
		if olds[k] == nil && news[back] == nil && olds[back] != nil {
			c.refuse(DataLayout, n.Name, "the fields at offsets %#x and %#x are used in the other order, and may have changed places (%v)", in[0].Disp, in[1].Disp, in[0].At)
			return
		}
	}
}

// sequences are the pairs of accesses by one register, by their keys, between
// which it is used.
func sequences(body []module.Instr) map[[2]uint64][]*module.Instr {
	const reach = 16 // instructions
	out := make(map[[2]uint64][]*module.Instr)
	for i := range body {
		p := &body[i]
		if !isField(p) {
			continue
		}
		used := false
		for k := i + 1; k < len(body) && k < i+reach; k++ {
			q := &body[k]
			if used && q.Shape == p.Shape && q.Disp != p.Disp {
				out[[2]uint64{p.Key, q.Key}] = []*module.Instr{p, q}
			}
			used = used || mentions(q, reg(p))
		}
	}
	return out
}

// reg is the register operand of an instruction.
func reg(p *module.Instr) byte { return p.ModRM>>3&7 | p.REX&4<<1 }

// mentions reports whether an instruction on registers has one of a number as operand.
func mentions(p *module.Instr, r byte) bool {
	return p.HasModRM && p.ModRM>>6 == 3 && (reg(p) == r || p.ModRM&7|p.REX&1<<3 == r)
}

// A width is how an instruction reads or writes a field.
type width struct {
	bytes uint8
	float bool
}

func (w width) String() string {
	if w.float {
		return fmt.Sprintf("%d bytes in floating point", w.bytes)
	}
	return fmt.Sprintf("%d bytes", w.bytes)
}

// judgeWidths refuses when a field is read or written with another width, or
// as a floating point number: in a stretch that differs, with no access of the
// old kind left in the one body and none of the new kind in the other.
func (c *comparer) judgeWidths(o, n *module.Func) {
	a, b := c.body(c.Old, o), c.body(c.New, n)
	olds, news := widths(a), widths(b)
	lo := run{}
	for _, r := range append(align(a, b, exact), run{len(a), len(b), 0}) {
		x, y := a[lo.i+lo.n:r.i], b[lo.j+lo.n:r.j]
		lo = r
		for i := range x {
			p := &x[i]
			u, ok := widthOf(p)
			if !ok {
				continue
			}
			for k := range y {
				q := &y[k]
				v, ok := widthOf(q)
				if !ok || u == v || truncates(p, v) || truncates(q, u) || c.joins(c.Old, o, p, b) || c.joins(c.New, n, q, a) || p.Disp+int64(u.bytes) <= q.Disp || q.Disp+int64(v.bytes) <= p.Disp ||
					meet(olds[p.Disp], news[p.Disp]) || meet(olds[q.Disp], news[q.Disp]) {
					continue
				}
				c.refuse(DataLayout, n.Name, "the field at offset %#x is read or written with %v, with %v in the fixed build (%v)", p.Disp, u, v, q.At)
				return
			}
		}
	}
}

// judgeVariables refuses when a variable is read and written with another
// width than before, or as a floating point number.
func (c *comparer) judgeVariables(o, n *module.Func) {
	was, is := c.variables(c.Old, o), c.variables(c.New, n)
	for _, at := range slices.SortedFunc(maps.Keys(is), spot.compare) {
		if len(was[at]) == 0 || meet(was[at], is[at]) {
			continue
		}
		u, v := anyOf(was[at]), anyOf(is[at])
		if u.float == v.float && (u.bytes == 8 && v.bytes == 4 || u.bytes == 4 && v.bytes == 8) {
			continue // the half of it, or both at once
		}
		name := fmt.Sprintf("the thread-local variable at offset %#x", at.offset)
		if at.object != 0 {
			name = c.objectName(c.Old, at.object)
		}
		c.refuse(DataLayout, n.Name, "%s is read or written with %v, with %v in the fixed build", name, u, v)
	}
}

// anyOf is the same one of a set each time.
func anyOf(set map[width]bool) width {
	return slices.MinFunc(slices.Collect(maps.Keys(set)), func(a, b width) int { return cmp.Compare(a.bytes, b.bytes) })
}

// variables are the widths with which a body accesses variables of the module,
// by their place in the baseline, and thread-local ones.
func (c *comparer) variables(m *module.Module, f *module.Func) map[spot]map[width]bool {
	out := make(map[spot]map[width]bool)
	body := c.body(m, f)
	for i := range body {
		p := &body[i]
		w, ok := access(p)
		at := spot{offset: p.Disp}
		switch {
		case !ok || !p.HasModRM || p.ModRM>>6 == 3:
			continue
		case p.RIP:
			at = spot{object: module.Addr(p.Target(uint64(p.At)))}
		case p.DispAddr != 0:
			at = spot{object: p.DispAddr}
		case p.Seg != 0x64 || !p.HasSIB || p.SIB != 0x25: // fs:disp32
			continue
		}
		if at.object != 0 {
			if s := m.SectionAt(at.object); s == nil || !s.Write || isGOT(s) {
				continue
			}
			if m == c.New {
				old, ok := c.data.Old(at.object)
				if !ok {
					continue
				}
				at.object = old
			}
		}
		if out[at] == nil {
			out[at] = make(map[width]bool)
		}
		out[at][w] = true
	}
	return out
}

// truncates reports whether a load of 4 bytes may take the low half of a
// field that another instruction accesses whole.
func truncates(p *module.Instr, whole width) bool {
	return p.Map == 0 && p.Opcode == 0x8b && p.MemSize == 4 && whole == width{bytes: 8}
}

// joins reports whether an instruction of f stores at once what the other body
// stores as two halves: compilers do so where they know both values, and where
// they copy two fields. A number whose upper half only goes on with the lower
// one's sign may be one field; what is copied has to be read in halves, too.
func (c *comparer) joins(m *module.Module, f *module.Func, p *module.Instr, other []module.Instr) bool {
	stores := func(i *module.Instr) bool { return i.Map == 0 && (i.Opcode == 0x89 || i.Opcode == 0xc7) }
	half := int64(p.MemSize / 2)
	halves := func(body []module.Instr, at int64, is func(*module.Instr) bool) bool {
		var low, high bool
		for i := range body {
			if in := &body[i]; isField(in) && int64(in.MemSize) == half && is(in) {
				low, high = low || in.Disp == at, high || in.Disp == at+half
			}
		}
		return low && high
	}
	if !stores(p) || half == 0 || !halves(other, p.Disp, stores) {
		return false
	}
	return slices.ContainsFunc(c.flowOf(m, f).sinks, func(s sink) bool {
		if s.at != p.At || int64(s.size) != 2*half {
			return false
		}
		upper := s.num >> (8 * half)
		return s.isNum && upper != 0 && upper != -1 ||
			s.copied && halves(c.body(m, f), s.leaves[len(s.leaves)-1], func(in *module.Instr) bool { return !stores(in) })
	})
}

func meet(a, b map[width]bool) bool {
	for w := range a {
		if b[w] {
			return true
		}
	}
	return false
}

func widths(body []module.Instr) map[int64]map[width]bool {
	out := make(map[int64]map[width]bool)
	for i := range body {
		if w, ok := widthOf(&body[i]); ok {
			d := body[i].Disp
			if out[d] == nil {
				out[d] = make(map[width]bool)
			}
			out[d][w] = true
		}
	}
	return out
}

// widthOf is how an instruction accesses a field.
func widthOf(p *module.Instr) (width, bool) {
	if !isField(p) {
		return width{}, false
	}
	return access(p)
}

// access is how an instruction accesses memory; what takes several fields at
// once says nothing, nor does a test of single bits.
func access(p *module.Instr) (width, bool) {
	if p.MemSize == 0 || p.MemSize > 8 || p.Map == 0 && (p.Opcode == 0xf6 || p.Opcode == 0x80) {
		return width{}, false
	}
	scalar := p.Map == 1 && (p.Rep || p.Repne) // SSE: F3, F2; ucomis and comis have neither
	op := p.Opcode
	float := p.Map == 0 && op >= 0xd8 && op <= 0xdf || p.Map == 1 && (op == 0x2e || op == 0x2f) ||
		scalar && (op == 0x10 || op == 0x11 || op == 0x2c || op == 0x2d || op >= 0x51 && op <= 0x5f)
	return width{p.MemSize, float}, true
}

// judgeStrides refuses when a changed body multiplies by other numbers than
// before: elements of an array that grew or shrank.
func (c *comparer) judgeStrides(o, n *module.Func) {
	more := make(map[int64]int)
	for f, k := range factors(c.body(c.Old, o)) {
		more[f] -= k
	}
	for f, k := range factors(c.body(c.New, n)) {
		more[f] += k
	}
	delete(more, 1)
	var gone, come []int64
	for f, k := range more {
		switch {
		case k < 0:
			gone = append(gone, f)
		case k > 0:
			come = append(come, f)
		}
	}
	if len(gone) > 0 && len(come) > 0 {
		slices.Sort(gone)
		slices.Sort(come)
		c.refuse(DataLayout, n.Name, "indexes with the factors %v, and %v in the fixed build", gone, come)
	}
}

// factors are what a body multiplies indexes with, and how often.
func factors(body []module.Instr) map[int64]int {
	out := make(map[int64]int)
	for i := range body {
		if f := factor(&body[i]); f > 1 && addresses(body[i:]) {
			out[f]++
		}
	}
	return out
}

// addresses reports whether what the first instruction computes becomes part
// of the address of a load or store soon, or it is one itself.
func addresses(body []module.Instr) bool {
	const reach = 8 // instructions
	p := &body[0]
	if p.HasSIB && !isLEA(p) {
		return !stackBased(p)
	}
	var from [16]bool
	from[target(p)] = true
	for i := 1; i < len(body) && i < reach; i++ {
		q := &body[i]
		if !q.HasModRM || q.VEX {
			continue
		}
		rm := q.ModRM&7 | q.REX&1<<3
		used := from[rm]
		if q.ModRM>>6 != 3 {
			if q.HasSIB {
				used = from[q.SIB&7|q.REX&1<<3] || from[q.SIB>>3&7|q.REX&2<<2]
			}
			if used && !q.RIP && q.DispAddr == 0 && !isLEA(q) {
				return true
			}
		}
		if q.Map != 0 {
			continue
		}
		switch q.Opcode {
		case 0x01, 0x89: // add, mov to rm
			if q.ModRM>>6 == 3 {
				from[rm] = from[rm] && q.Opcode == 0x01 || from[reg(q)]
			}
		case 0x03: // add to reg
			from[reg(q)] = from[reg(q)] || q.ModRM>>6 == 3 && used
		case 0x8b, 0x8d: // mov, lea to reg
			from[reg(q)] = used && !q.RIP && q.DispAddr == 0
		}
	}
	return false
}

// target is the register that a lea, imul or shl writes.
func target(p *module.Instr) byte {
	if p.Opcode == 0xc1 {
		return p.ModRM&7 | p.REX&1<<3
	}
	return reg(p)
}

// factor is what an instruction multiplies a register with, to find an element
// of an array; 1 when it does not.
func factor(p *module.Instr) int64 {
	switch {
	case p.Kind != x86.Other || !p.HasModRM || p.VEX:
	case p.HasSIB && p.ModRM>>6 != 3:
		index, base := p.SIB>>3&7|p.REX&2<<2, p.SIB&7|p.REX&1<<3
		if index == 4 {
			break
		}
		f := int64(1) << (p.SIB >> 6)
		if isLEA(p) && index == base {
			f++
		}
		return f
	case p.Map != 0:
	case (p.Opcode == 0x69 || p.Opcode == 0x6b) && p.Imm > 0:
		return p.Imm
	case p.Opcode == 0xc1 && p.ModRM>>3&7 == 4 && p.Imm < 16 && p.ModRM>>6 == 3:
		return 1 << p.Imm
	}
	return 1
}
