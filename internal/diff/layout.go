package diff

import (
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// judgeLayout looks in a changed body for signs that an object's layout
// changed: a field of the same access that moved, or another size asked of an
// allocator. One moved load or store is enough; the address of a field alone
// is not, nor are accesses that only change their order.
func (c *comparer) judgeLayout(o, n *module.Func) {
	a, b := c.body(c.Old, o), c.body(c.New, n)
	used := make(map[int64]int) // how many more accesses at an offset the fixed build has
	for i := range a {
		if isField(&a[i]) {
			used[a[i].Disp]--
		}
	}
	for i := range b {
		if isField(&b[i]) {
			used[b[i].Disp]++
		}
	}
	keys := make(map[uint64]int) // how many more of an instruction the fixed build has
	for i := range a {
		keys[a[i].Key]--
	}
	for i := range b {
		keys[b[i].Key]++
	}
	tls := usesTLS(a) || usesTLS(b)
	var moved [][2]*module.Instr
	shift := make(map[int64]map[int64]bool) // distance -> offsets that moved by it
	lo := run{}
	for _, r := range append(align(a, b, exact), run{len(a), len(b), 0}) {
		x, y := a[lo.i+lo.n:r.i], b[lo.j+lo.n:r.j]
		at := lo.j + lo.n
		lo = r
		if len(x) == 0 || len(y) == 0 {
			continue
		}
		for _, r := range align(x, y, shape) {
			for k := range r.n {
				p, q := &x[r.i+k], &y[r.j+k]
				switch {
				case p.Key == q.Key:
				case p.Seg != 0 && p.Disp != q.Disp, tls && isLEA(p) && p.Disp != q.Disp && !stackBased(p):
					c.refuse(TLSLayout, n.Name, "offset %#x of thread-local storage becomes %#x (%v)", p.Disp, q.Disp, q.At)
				case p.Disp != q.Disp && isField(p) && isField(q):
					moved = append(moved, [2]*module.Instr{p, q})
					d := q.Disp - p.Disp
					if shift[d] == nil {
						shift[d] = make(map[int64]bool)
					}
					shift[d][p.Disp] = true
				case p.ImmLen == 4 && p.Imm != q.Imm && c.allocates(c.New, n, b, at+r.j+k):
					if keys[p.Key] >= 0 && keys[q.Key] <= 0 || c.allocated(c.Old, o, a) == c.allocated(c.New, n, b) {
						break // as often as before, in another order, or asked in another way, as of calloc
					}
					c.refuse(DataLayout, n.Name, "an allocation of %d bytes becomes %d (%v)", p.Imm, q.Imm, q.At)
				case p.ImmLen == 4 && p.Imm < q.Imm && isNumber(q):
					c.grown(n, p.Imm, q.Imm, q.At)
				}
			}
		}
	}
	// Two fields that changed places: every offset is used as often as before,
	// but not by the same instructions.
	swapped := func(p, q *module.Instr) bool {
		return keys[p.Key] < 0 && keys[q.Key] > 0 && shift[p.Disp-q.Disp][q.Disp] && !c.sameUse(o, n, p.Disp, q.Disp)
	}
	for _, m := range moved {
		p, q := m[0], m[1]
		gone, come := used[p.Disp] < 0, used[q.Disp] > 0
		if gone && come || (gone || come) && len(shift[q.Disp-p.Disp]) > 1 || swapped(p, q) {
			c.refuse(DataLayout, n.Name, "the field at offset %#x is at %#x in the fixed build (%v)", p.Disp, q.Disp, q.At)
			return
		}
	}
}

// isField reports whether an instruction loads or stores at a displacement off
// a pointer. Displacements off rsp, or off rbp, are places in the stack frame
// and move freely.
func isField(p *module.Instr) bool {
	if !p.HasModRM || p.ModRM>>6 == 3 || p.RIP || p.DispAddr != 0 || p.Seg != 0 || p.Kind != x86.Other || p.Map == 0 && p.Opcode == 0x8d {
		return false
	}
	base := p.ModRM & 7
	if p.HasSIB {
		base = p.SIB & 7
		if p.ModRM>>6 == 0 && base == 5 {
			return false // no base: an absolute or scaled address
		}
	}
	return p.REX&1 != 0 || base != 4 && base != 5
}

func isLEA(p *module.Instr) bool {
	return p.Map == 0 && p.Opcode == 0x8d && !p.VEX && !p.RIP && p.DispAddr == 0
}

// stackBased reports whether a memory operand counts from rsp or rbp.
func stackBased(p *module.Instr) bool {
	base := p.ModRM & 7
	if p.HasSIB {
		base = p.SIB & 7
		if p.ModRM>>6 == 0 && base == 5 {
			return false // no base
		}
	}
	return p.REX&1 == 0 && (base == 4 || base == 5)
}

// usesTLS reports whether a body computes addresses of thread-local variables
// from the thread pointer, mov %fs:0 (psABI x86-64, TLS model local exec).
func usesTLS(body []module.Instr) bool {
	return slices.ContainsFunc(body, func(i module.Instr) bool { return i.Seg == 0x64 && i.Disp == 0 && i.Kind == x86.Other })
}

// isNumber reports whether an instruction moves a number to a register.
func isNumber(p *module.Instr) bool { return p.Map == 0 && p.Opcode&0xf8 == 0xb8 && !p.VEX }

// A growth is a number that became larger and may be the size of an object.
type growth struct {
	fn       *module.Func
	from, to int64
	at       module.Addr
}

func (c *comparer) grown(n *module.Func, from, to int64, at module.Addr) {
	if from >= 16 && from%4 == 0 && to%4 == 0 {
		c.growths = append(c.growths, growth{n, from, to, at})
	}
}

// judgeGrowth refuses when a number grew, as the size given to an allocator of
// the program's own does, and changed code newly uses a field in what it grew by.
func (c *comparer) judgeGrowth() {
	for _, g := range c.growths {
		for i := range c.Changes {
			f := c.Changes[i].New
			had := make(map[int64]int)
			if o := c.Changes[i].Old; o != nil {
				for _, in := range c.body(c.Old, o) {
					if isField(&in) {
						had[in.Disp]++
					}
				}
			}
			for _, in := range c.body(c.New, f) {
				if !isField(&in) {
					continue
				}
				if had[in.Disp]--; had[in.Disp] < 0 && in.Disp >= g.from && in.Disp < g.to {
					c.refuse(DataLayout, g.fn.Name, "%d becomes %d (%v), and %s uses a field at offset %#x", g.from, g.to, g.at, f.Name, in.Disp)
					return
				}
			}
		}
	}
}

// judgeSizes refuses when the size of what an allocator is asked for comes from
// constants that changed: what exists has the old size.
func (c *comparer) judgeSizes(n *module.Func) {
	w := c.flowOf(c.New, n)
	for i := range w.sinks {
		s := &w.sinks[i]
		if s.kind != sinkCall || s.table == 0 || len(allocators[importName(c.New, s.callee)]) == 0 {
			continue
		}
		for p := range c.votes.constants {
			if p[1] == s.table && c.constant(p[0], p[1], module.RefAddress, 0) == different {
				c.refuse(DataLayout, n.Name, "the size of an allocation comes from the constants at %v, which changed (%v)", s.table, s.at)
				return
			}
		}
	}
}

// allocates reports whether the instruction at index i sets an argument
// register of a call to an allocator.
func (c *comparer) allocates(m *module.Module, f *module.Func, body []module.Instr, i int) bool {
	in := &body[i]
	if in.Map != 0 || in.Opcode&0xf8 != 0xb8 || in.REX&1 != 0 {
		return false
	}
	for k := i + 1; k < len(body) && k < i+12; k++ {
		switch body[k].Kind {
		case x86.Call, x86.Jmp, x86.CallInd:
			if body[k].Ref < 0 {
				return false
			}
			return slices.Contains(allocators[importName(m, f.Refs[body[k].Ref].Target)], in.Opcode&7)
		case x86.Jcc, x86.Ret:
			return false
		}
	}
	return false
}

// allocators are the functions that are asked for a number of bytes, with the
// registers it is passed in: 7 edi, 6 esi, 2 edx (psABI 3.2.3).
var allocators = map[string][]byte{
	"malloc": {7}, "calloc": {7, 6}, "realloc": {6}, "reallocarray": {6, 2}, "aligned_alloc": {6}, "posix_memalign": {2},
	"_Znwm": {7}, "_Znam": {7}, "_ZnwmRKSt9nothrow_t": {7}, "_ZnwmSt11align_val_t": {7},
	"g_malloc": {7}, "g_malloc0": {7}, "g_try_malloc": {7}, "g_slice_alloc": {7}, "g_slice_alloc0": {7}, "g_realloc": {6},
	"CRYPTO_malloc": {7}, "CRYPTO_zalloc": {7}, "CRYPTO_realloc": {6},
}

// importName is the symbol that a linkage stub or a slot at a leads to.
func importName(m *module.Module, a module.Addr) string {
	if slot, ok := m.Stub(a); ok {
		a = slot
	}
	if r, ok := m.RelocAt(a); ok {
		return r.Sym
	}
	if f := m.FuncAt(a); f != nil && f.Entry() == a && len(f.Names) > 0 {
		return f.Names[0]
	}
	return ""
}
