package diff

import (
	"debug/elf"
	"fmt"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// owned are the tables of labels of one function (computed goto), or why they
// cannot go with it.
type owned struct {
	tables []module.Range
	why    string
}

// LabelTables are the tables of pointers to the inside of f, of the fixed build,
// that nothing but f's own jumps uses, so that f takes a copy of them along.
func (r *Result) LabelTables(f *module.Func) []module.Range { return r.labels[f].tables }

// judgeLabels refuses where pointers lead to the inside of a function and may
// have been kept: from a table of labels that is not used by its jumps alone,
// or because the function takes the address of a label itself. What the program
// has kept of them leads into the baseline's.
func (c *comparer) judgeLabels(f *module.Func, m *module.Module) {
	if o := c.ownedTables(m, f); o.why != "" {
		c.refuse(Labels, f.Name, "%s (computed goto)", o.why)
	}
	for _, in := range c.body(m, f) {
		t := module.Addr(in.Target(uint64(in.At)))
		label := func(t module.Addr) bool { return f.Contains(t) && !slices.Contains(f.Entries, t) }
		if !in.RIP || in.MemSize != 0 {
			t = in.ImmAddr
		}
		if label(t) || label(in.DispAddr) {
			c.refuse(Labels, f.Name, "the code at %v takes the address of one of its labels, %v (computed goto)", in.At, max(t, in.DispAddr))
			return
		}
	}
}

// taken reports whether two slots belong to tables of labels that a changed
// function takes along, so that nobody reads the baseline's any more.
func (c *comparer) taken(o, n module.Reloc) bool {
	to, _ := o.Leads()
	tn, _ := n.Leads()
	fo, fn := c.Old.FuncAt(to), c.New.FuncAt(tn)
	return fo != nil && fn != nil && c.toNew[fo] == fn && c.changed[fn] != "" &&
		slices.ContainsFunc(c.ownedTables(c.Old, fo).tables, func(r module.Range) bool { return r.Contains(o.Addr) }) &&
		slices.ContainsFunc(c.ownedTables(c.New, fn).tables, func(r module.Range) bool { return r.Contains(n.Addr) })
}

// pointersInto are the places of the pointers to the inside of a function.
func (c *comparer) pointersInto(f *module.Func) []module.Addr {
	if c.inside == nil {
		c.inside = make(map[*module.Func][]module.Addr)
		for _, m := range []*module.Module{c.Old, c.New} {
			for _, r := range m.Relocs {
				if a, ok := r.Leads(); ok {
					if g := m.FuncAt(a); g != nil && a != g.Entry() {
						c.inside[g] = append(c.inside[g], r.Addr)
					}
				}
			}
		}
	}
	return c.inside[f]
}

// ownedTables finds the tables of labels of a function.
func (c *comparer) ownedTables(m *module.Module, f *module.Func) owned {
	if o, ok := c.labels[f]; ok {
		return o
	}
	o := c.findTables(m, f)
	if o.why != "" {
		o.tables = nil
	}
	c.labels[f] = o
	return o
}

func (c *comparer) findTables(m *module.Module, f *module.Func) (o owned) {
	slots := c.pointersInto(f)
	for i := 0; i < len(slots); {
		r := module.Range{Start: slots[i], End: slots[i]}
		limit := m.NextAnchor(r.Start)
		for ; i < len(slots) && slots[i] == r.End && r.End < limit; i++ {
			r.End += 8
		}
		if why := c.usedElsewhere(m, f, r); why != "" {
			return owned{why: why}
		}
		if _, more := m.RelocAt(r.End); more && r.End < limit && m.Fixed() {
			return owned{why: fmt.Sprintf("the pointer at %v, in a table of labels, leads elsewhere", r.End)}
		}
		o.tables = append(o.tables, r)
	}
	if len(o.tables) > 0 && !c.switches(m, f, o.tables) {
		o.why = c.onlyJumps(m, f, o.tables)
	}
	return o
}

// switches reports whether all that a function does with its tables of labels
// is to jump through them at once, as for a switch in a program at a fixed
// address: jmp *table(,index,8). Then no label is ever held.
func (c *comparer) switches(m *module.Module, f *module.Func, tables []module.Range) bool {
	body := c.body(m, f)
	find := positions(f, body)
	for _, t := range tables {
		for _, r := range m.RelocsIn(t) {
			if a, _ := r.Leads(); find(a) < 0 || body[find(a)].At != a {
				return false
			}
		}
	}
	for i := range body {
		if u := useOf(&body[i], tables); u != usesNot && u != jumpsToLabel {
			return false
		}
	}
	return true
}

// tableUse is what an instruction does with a table of labels.
type tableUse uint8

const (
	usesNot      tableUse = iota
	takesTable            // its address
	loadsLabel            // mov table(,index,8), register
	jumpsToLabel          // jmp *table(,index,8)
	usesOtherwise
)

func useOf(in *module.Instr, tables []module.Range) tableUse {
	inside := func(a module.Addr) bool {
		return slices.ContainsFunc(tables, func(r module.Range) bool { return r.Contains(a) })
	}
	starts := func(a module.Addr) bool {
		return slices.ContainsFunc(tables, func(r module.Range) bool { return r.Start == a })
	}
	plain := in.Map == 0 && !in.VEX && !in.Addr32 && in.Seg == 0
	wide := plain && in.REX&8 != 0
	scaled := plain && in.HasSIB && in.ModRM>>6 == 0 && in.SIB&7 == 5 && in.SIB>>6 == 3 && in.SIB>>3&7|in.REX&2<<2 != 4
	to := module.Addr(in.Target(uint64(in.At)))
	switch {
	case in.RIP && starts(to) && wide && in.Opcode == 0x8d:
		return takesTable
	case in.RIP && inside(to):
		return usesOtherwise
	case !inside(in.ImmAddr) && !inside(in.DispAddr):
		return usesNot
	case starts(in.DispAddr) && scaled && in.Kind == x86.JmpInd:
		return jumpsToLabel
	case starts(in.DispAddr) && scaled && wide && in.Opcode == 0x8b:
		return loadsLabel
	case starts(in.ImmAddr) && plain && in.Opcode&0xf8 == 0xb8, starts(in.ImmAddr) && wide && in.Opcode == 0xc7 && in.ModRM>>6 == 3:
		return takesTable
	}
	return usesOtherwise
}

// usedElsewhere says who but f, which takes its address, refers to a table; empty for nobody.
func (c *comparer) usedElsewhere(m *module.Module, f *module.Func, r module.Range) string {
	if s := m.SectionAt(r.Start); s == nil || s.Write && !s.Relro {
		return fmt.Sprintf("pointers at %v, which the program may change, lead to the inside of the function", r.Start)
	}
	if k := m.AnchorAt(r.Start); k&^module.AnchorTable != module.AnchorTaken {
		return fmt.Sprintf("pointers at %v, which not its code alone uses, lead to the inside of the function", r.Start)
	}
	for _, list := range [][]*module.Func{m.Funcs, m.Gaps} {
		for _, g := range list {
			for i := range g.Refs {
				if ref := &g.Refs[i]; g != f && r.Contains(ref.Target) {
					return fmt.Sprintf("%s uses its table of labels at %v", g.Name, r.Start)
				}
			}
		}
	}
	return ""
}

// A holding says which general registers may hold the address of a table, and
// which a label; and which hold that for certain.
type holding struct{ table, label, sure regs }

// meet is what is known where two ways join.
func (h holding) meet(o holding) holding {
	return holding{h.table | o.table, h.label | o.label, h.sure & o.sure}
}

// regs is a set of general registers, by their numbers.
type regs uint16

func (r regs) has(n byte) bool { return r>>n&1 != 0 }

const (
	// By the psABI x86-64, 3.2.3: what a function is given, what it gives back,
	// and what a call may change. r10 is the static chain.
	regsGiven    regs = 1<<7 | 1<<6 | 1<<2 | 1<<1 | 1<<8 | 1<<9 | 1<<10
	regsReturned regs = 1<<0 | 1<<2
	regsChanged  regs = regsGiven | 1<<0 | 1<<11
)

// onlyJumps follows the addresses of a function's tables of labels, and the
// labels loaded from them, through its code. It says where one may go anywhere
// else than to a jump; empty when none does.
func (c *comparer) onlyJumps(m *module.Module, f *module.Func, tables []module.Range) string {
	body := c.body(m, f)
	for _, fde := range f.FDEs {
		if fde.LSDA.Value != 0 {
			return "a function with a table of labels catches exceptions"
		}
	}
	if len(body) == 0 || len(f.Tables) > 0 {
		return "a function with a table of labels has other tables"
	}
	find := positions(f, body)
	var labels []int
	for _, t := range tables {
		for _, r := range m.RelocsIn(t) {
			a, _ := r.Leads()
			i := find(a)
			if i < 0 || body[i].At != a || r.Type != elf.R_X86_64_RELATIVE {
				return fmt.Sprintf("the pointer at %v leads to no instruction", r.Addr)
			}
			labels = append(labels, i)
		}
	}
	before := make([]*holding, len(body))
	var work []int
	flow := func(i int, h holding) {
		if i < 0 {
			return
		}
		if was := before[i]; was != nil {
			if h = was.meet(h); h == *was {
				return
			}
		}
		before[i] = &h
		work = append(work, i)
	}
	for _, e := range f.Entries {
		flow(find(e), holding{})
	}
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		in, h, t := &body[i], *before[i], -1
		to := module.Addr(in.Target(uint64(in.At)))
		if in.Kind == x86.Jmp || in.Kind == x86.Jcc {
			t = find(to)
		}
		jumps, ok := h.step(in, useOf(in, tables), t < 0)
		switch {
		case !ok:
			return fmt.Sprintf("the code at %v may keep the address of a label", in.At)
		case jumps:
			for _, l := range labels {
				flow(l, h)
			}
		case in.Kind == x86.Jmp:
			flow(t, h)
		case in.Kind == x86.JmpInd, in.Kind == x86.Ret, in.Kind == x86.Trap, i+1 == len(body):
		default:
			flow(t, h)
			flow(i+1, h)
		}
	}
	if i := slices.Index(before, nil); i >= 0 {
		return fmt.Sprintf("it is not known what leads to %v, in a function with a table of labels", body[i].At)
	}
	return ""
}

// step is what an instruction makes of what registers hold: whether it jumps to
// a label, and whether it is certain that neither table nor label goes elsewhere.
// It may use a table, and a branch may leave the function.
func (h *holding) step(in *module.Instr, use tableUse, leaves bool) (jumps, ok bool) {
	all := h.table | h.label
	direct := in.HasModRM && in.ModRM>>6 == 3
	rm, reg := in.ModRM&7|in.REX&1<<3, in.ModRM>>3&7|in.REX&4<<1
	wide := in.Map == 0 && !in.VEX && in.REX&8 != 0 && !in.Addr32 && in.Seg == 0
	switch index := regs(1) << (in.SIB>>3&7 | in.REX&2<<2); {
	case use == usesOtherwise, use > takesTable && all&index != 0:
		return false, false
	case use == jumpsToLabel:
		return true, true
	case use == takesTable && in.Opcode == 0xc7:
		reg = rm
	case use == takesTable && in.Opcode&0xf8 == 0xb8:
		reg = in.Opcode&7 | in.REX&1<<3
	}
	set := func(table, label, sure bool) {
		for _, x := range []struct {
			in *regs
			is bool
		}{{&h.table, table}, {&h.label, label}, {&h.sure, sure}} {
			*x.in &^= 1 << reg
			if x.is {
				*x.in |= 1 << reg
			}
		}
	}
	switch in.Kind {
	case x86.Nop, x86.Endbr, x86.Int3, x86.Trap:
		return false, true
	case x86.Jmp, x86.Jcc:
		counts := in.Kind == x86.Jcc && in.Map == 0 && in.Opcode&0xf0 != 0x70 && all.has(1) // loop and jrcxz: rcx
		return false, !counts && (!leaves || all&regsGiven == 0)
	case x86.Ret:
		return false, all&regsReturned == 0
	case x86.JmpInd:
		if h.loads(in) || direct && h.label.has(rm) && h.sure.has(rm) && !h.table.has(rm) {
			return true, true
		}
		return false, in.RIP && all&regsGiven == 0 // else it may be a label that was kept
	case x86.Call, x86.CallInd:
		if all&regsGiven != 0 || in.Kind == x86.CallInd && all&named(in) != 0 {
			return false, false
		}
		h.forget(regsChanged)
		return false, true
	case x86.Syscall:
		return false, all == 0
	}
	switch {
	case use == takesTable:
		set(true, false, true)
		return false, true
	case use == loadsLabel:
		set(false, true, true)
		return false, true
	case wide && in.Opcode == 0x8b && h.loads(in):
		set(false, true, true)
		return false, true
	case wide && direct && in.Opcode == 0x89:
		reg, rm = rm, reg
		set(h.table.has(rm), h.label.has(rm), h.sure.has(rm))
		return false, true
	case wide && direct && in.Opcode == 0x8b:
		set(h.table.has(rm), h.label.has(rm), h.sure.has(rm))
		return false, true
	}
	sets, reads := overwrites(in)
	if all&reads != 0 {
		return false, false
	}
	h.forget(sets)
	return false, true
}

func (h *holding) forget(r regs) {
	h.table, h.label, h.sure = h.table&^r, h.label&^r, h.sure&^r
}

// loads reports whether an instruction reads an entry of a table: (base,index,8)
// without a displacement.
func (h *holding) loads(in *module.Instr) bool {
	base, index := in.SIB&7|in.REX&1<<3, in.SIB>>3&7|in.REX&2<<2
	return in.HasModRM && in.ModRM>>6 != 3 && in.HasSIB && in.SIB>>6 == 3 && in.Disp == 0 && !(in.ModRM>>6 == 0 && in.SIB&7 == 5) &&
		!in.Addr32 && in.Seg == 0 && h.table.has(base) && h.sure.has(base) && !h.label.has(base) && !(h.table | h.label).has(index)
}

// named are the general registers that ModRM and SIB, or else the opcode, may name.
func named(in *module.Instr) regs {
	if !in.HasModRM {
		return 1 << (in.Opcode&7 | in.REX&1<<3)
	}
	out := regs(1<<(in.ModRM>>3&7|in.REX&4<<1) | 1<<(in.ModRM&7|in.REX&1<<3))
	if in.HasSIB {
		out |= 1<<(in.SIB&7|in.REX&1<<3) | 1<<(in.SIB>>3&7|in.REX&2<<2)
	}
	return out
}

// overwrites are the general registers that an instruction gives a new value,
// and those that it may read. What is not known in particular may read all
// that it names, and rax, rcx, rdx, rbx, rsi and rdi, as string instructions,
// divisions and cmpxchg16b do; what has VEX, which may name another, all.
func overwrites(in *module.Instr) (sets, reads regs) {
	const implicit regs = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7
	memory, reg := regs(0), regs(1)<<(in.ModRM>>3&7|in.REX&4<<1)
	if in.HasModRM && !in.RIP {
		memory = 1 << (in.ModRM&7 | in.REX&1<<3)
		if in.HasSIB {
			memory = 1<<(in.SIB&7|in.REX&1<<3) | 1<<(in.SIB>>3&7|in.REX&2<<2)
		}
	}
	full := !in.Data16 // 32 bits fill up the register
	op := in.Opcode
	switch {
	case in.VEX:
		return 0, ^regs(0)
	case in.Map == 0 && full && (op == 0x8b || op == 0x8d || op == 0x63 || op == 0x69 || op == 0x6b), in.Map == 1 && full && (op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf):
		return reg, memory
	case in.Map == 0 && full && (op == 0x31 || op == 0x33) && in.ModRM>>6 == 3 && memory == reg: // xor of a register with itself
		return reg, 0
	case in.Map == 0 && full && op == 0x89 && in.ModRM>>6 == 3:
		return memory, reg
	case in.Map == 1 && in.HasModRM && op != 0xf7 && (op >= 0x10 && op < 0x18 || op >= 0x28 && op < 0x30 || op >= 0x40 && op < 0x80 || op&0xf0 == 0x90 || op == 0xaf || op >= 0xd0):
		return 0, memory | reg // conditional moves, setcc, imul and SSE, but for maskmovq
	case in.Map == 0 && op&0xf8 == 0x58: // pop
		return 1 << (op&7 | in.REX&1<<3), 0
	case in.Map == 0 && op&0xf8 == 0x50: // push
		return 0, 1 << (op&7 | in.REX&1<<3)
	case in.Map == 0 && full && op&0xf8 == 0xb8: // mov of a number
		return 1 << (op&7 | in.REX&1<<3), 0
	case in.Map == 0 && (op < 0x40 && op&7 < 4 || op >= 0x84 && op <= 0x85 || op >= 0x88 && op <= 0x89): // of two operands
		return 0, memory | reg
	case in.Map == 0 && (op == 0x80 || op == 0x81 || op == 0x83 || op == 0xc0 || op == 0xc1 || op == 0xc6 || op == 0xc7 || op == 0xd0 || op == 0xd1): // and a number
		return 0, memory
	case in.Map == 0 && (op < 0x40 && op&7 < 6 || op == 0xa8 || op == 0xa9): // rax and a number
		return 0, 1
	}
	return 0, named(in) | implicit
}
