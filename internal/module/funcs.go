package module

import (
	"debug/elf"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"hotpatch/internal/module/cfi"
	"hotpatch/internal/module/x86"
)

// A Func is one function with all of its parts, or a gap: code that no FDE covers.
type Func struct {
	// Ranges are its parts; the first starts at the entry, the others are
	// .cold parts and the like, by address.
	Ranges []Range
	// Entries are the starts of the ranges that are entered from outside: by
	// a call, a pointer or a symbol. The first is Entry; more than one is rare.
	Entries []Addr
	FDEs    []*cfi.FDE // of the ranges, in their order; nil for a gap
	// Name is a symbol at the entry, or func_<address>.
	Name     string
	Names    []string // every symbol at the entry
	Exported bool     // a defined symbol of .dynsym is at the entry
	Gap      bool     // no FDE covers it
	Orphan   bool     // a part whose function was not found
	// Opaque: its bytes do not decode as instructions from end to end.
	Opaque bool
	// IndirectJump: it holds a computed jump by a table of offsets.
	IndirectJump bool

	Hash   [16]byte // of the masked body, see canon
	Insts  int      // number of instructions without NOPs
	Refs   []Ref
	Tables []JumpTable

	id int // in its module
}

// Entry is the address of the first instruction.
func (f *Func) Entry() Addr { return f.Ranges[0].Start }

// Size is the number of bytes of all ranges.
func (f *Func) Size() uint64 {
	var n uint64
	for _, r := range f.Ranges {
		n += r.Len()
	}
	return n
}

// Contains reports whether a lies in one of the ranges.
func (f *Func) Contains(a Addr) bool {
	return slices.ContainsFunc(f.Ranges, func(r Range) bool { return r.Contains(a) })
}

// RefKind says how an instruction refers to an address.
type RefKind uint8

// The kinds of references.
const (
	RefCall    RefKind = iota // call rel32
	RefJump                   // jmp or jcc out of the function
	RefAddress                // lea: the address itself
	RefMemory                 // a memory operand: load, store, or both
)

// A Ref is one reference of an instruction to an address outside its function.
type Ref struct {
	At       Addr   // of the instruction
	Target   Addr   // where it leads
	Index    uint32 // of the instruction among those of the function, NOPs not counted
	Kind     RefKind
	FieldOff uint8 // of the displacement in the instruction, bytes
	FieldLen uint8 // 1, 4 or 8
	InstLen  uint8
	MemSize  uint8 // bytes read or written at Target, 0 when unknown
	// Absolute: the field holds the address itself, as in programs at a fixed
	// address; FieldLen is 4 or 8. Else it is relative to the instruction's end.
	Absolute bool
}

// Indexed reports whether a register is added to the address, as in table(,%rax,8).
func (r *Ref) Indexed() bool { return r.Absolute && r.Kind == RefMemory && r.MemSize == 0 }

// A JumpTable is a table of 32-bit offsets from its own address to
// instructions of the function.
type JumpTable struct {
	Addr    Addr
	Targets []uint32 // instruction indexes, or Nowhere
}

// Nowhere stands for a jump table's entry that leads out of the function.
const Nowhere = 1<<32 - 1

// ins is one decoded instruction, kept while functions are put together.
type ins struct {
	off              uint32
	len, kind        uint8
	dispOff, dispLen uint8
	flags            uint8
	mem              uint8
}

const (
	insRIP = 1 << iota
	insLEA
	insJumpReg // jmp *%reg
	insOffLoad // movslq (base,index,4): loads a jump table's offset
)

// part is one FDE range being read.
type part struct {
	Range
	fde    *cfi.FDE
	ins    []ins
	bad    bool
	isPart bool // the call frame at its start is not the one at entry
	group  int  // union-find parent
}

func (m *Module) functions() error {
	parts, err := m.fdeRanges()
	if err != nil {
		return err
	}
	parallel(len(parts), func(i int) { m.decode(&parts[i]) })
	at := func(a Addr) int {
		i := sort.Search(len(parts), func(i int) bool { return parts[i].Start > a }) - 1
		if i >= 0 && parts[i].Contains(a) {
			return i
		}
		return -1
	}
	join(m, parts, at)
	m.assemble(parts, m.entered(parts, at))
	m.nameFuncs()
	m.findGaps()
	m.collectAnchors()
	m.boundTables()
	return nil
}

// fdeRanges are the ranges of .eh_frame outside the linkage stubs.
func (m *Module) fdeRanges() ([]part, error) {
	var parts []part
	for i := range m.CFI.FDEs {
		f := &m.CFI.FDEs[i]
		r := Range{Addr(f.Start), Addr(f.End)}
		s := m.SectionAt(r.Start)
		if s == nil || r.End <= r.Start || r.End > s.End {
			return nil, fmt.Errorf("FDE at %v does not lie in a section", r.Start)
		}
		if !s.Exec || s.isPLT() {
			continue
		}
		if n := len(parts); n > 0 && r.Start < parts[n-1].End {
			if r == parts[n-1].Range {
				continue
			}
			return nil, fmt.Errorf("%w: FDE ranges overlap at %v", ErrUnsupported, r.Start)
		}
		entry, err := f.EntryIsCall()
		if err != nil {
			return nil, fmt.Errorf("read FDE of %v: %w", r.Start, err)
		}
		parts = append(parts, part{Range: r, fde: f, isPart: !entry, group: len(parts)})
	}
	return parts, nil
}

func (m *Module) decode(p *part) {
	code := m.Bytes(p.Range)
	p.ins = make([]ins, 0, len(code)/4)
	for o := 0; o < len(code); {
		in, err := x86.Decode(code[o:])
		if err != nil || code == nil {
			p.bad = true
			return
		}
		p.ins = append(p.ins, compact(&in, o))
		o += int(in.Len)
	}
	p.bad = code == nil
}

func compact(in *x86.Inst, o int) ins {
	c := ins{off: uint32(o), len: in.Len, kind: uint8(in.Kind), dispOff: in.DispOff, dispLen: in.DispLen, mem: in.MemSize}
	if in.RIP {
		c.flags |= insRIP
		if in.Map == 0 && in.Opcode == 0x8d && !in.VEX {
			c.flags |= insLEA
		}
	}
	if in.Kind == x86.JmpInd && in.ModRM>>6 == 3 {
		c.flags |= insJumpReg
	}
	if in.Map == 0 && in.Opcode == 0x63 && in.HasSIB && in.SIB>>6 == 2 && !in.VEX {
		c.flags |= insOffLoad
	}
	return c
}

// target is where a relative instruction leads.
func (p *part) target(code []byte, c *ins) Addr {
	var d int64
	f := code[int(c.off)+int(c.dispOff):]
	if c.dispLen == 1 {
		d = int64(int8(f[0]))
	} else {
		d = int64(int32(uint32(f[0]) | uint32(f[1])<<8 | uint32(f[2])<<16 | uint32(f[3])<<24))
	}
	return p.Start + Addr(c.off) + Addr(c.len) + Addr(d)
}

func (c *ins) branch() bool { return c.kind == uint8(x86.Jmp) || c.kind == uint8(x86.Jcc) }

func (c *ins) relative() bool {
	return c.flags&insRIP != 0 || c.branch() || c.kind == uint8(x86.Call)
}

// boundary is the index of the instruction at a, or -1.
func (p *part) boundary(a Addr) int {
	o := uint32(a - p.Start)
	i := sort.Search(len(p.ins), func(i int) bool { return p.ins[i].off >= o })
	if i < len(p.ins) && p.ins[i].off == o {
		return i
	}
	return -1
}

func find(parts []part, i int) int {
	for parts[i].group != i {
		parts[i].group = parts[parts[i].group].group
		i = parts[i].group
	}
	return i
}

// join unites the ranges that are parts of one function: where a conditional
// jump leads to another range, where any jump leads into another's interior,
// and where the target's call frame is not the one at a function's entry. A
// plain jump to an entry is a tail call and joins nothing.
func join(m *Module, parts []part, at func(Addr) int) {
	unite := func(a, b int) {
		if a, b = find(parts, a), find(parts, b); a != b {
			parts[b].group = a
		}
	}
	for i := range parts {
		p := &parts[i]
		code := m.Bytes(p.Range)
		for k := range p.ins {
			c := &p.ins[k]
			if !c.branch() {
				continue
			}
			t := p.target(code, c)
			if p.Contains(t) {
				continue
			}
			if j := at(t); j >= 0 && (c.kind == uint8(x86.Jcc) || t != parts[j].Start || parts[j].isPart) {
				unite(i, j)
			}
		}
	}
	// A part that only a jump table reaches.
	for i := range parts {
		p := &parts[i]
		m.tableCandidates(p, func(table Addr) {
			for n := Addr(0); ; n++ {
				t, ok := m.offsetEntry(table, n)
				j := at(t)
				if !ok || j < 0 || parts[j].boundary(t) < 0 {
					return
				}
				if find(parts, j) != find(parts, i) {
					if !parts[j].isPart {
						return
					}
					unite(i, j)
				}
			}
		})
	}
}

// tableCandidates calls f for every read-only address whose address a part
// with a computed jump takes.
func (m *Module) tableCandidates(p *part, f func(Addr)) {
	jump := slices.ContainsFunc(p.ins, func(c ins) bool { return c.flags&insJumpReg != 0 })
	if !jump {
		return
	}
	code := m.Bytes(p.Range)
	for k := range p.ins {
		c := &p.ins[k]
		if c.flags&insLEA == 0 {
			continue
		}
		t := p.target(code, c)
		if s := m.SectionAt(t); s != nil && !s.Write && !s.Exec {
			f(t)
		}
	}
}

// offsetEntry is where entry n of a table of 32-bit offsets leads.
func (m *Module) offsetEntry(table, n Addr) (Addr, bool) {
	b := m.Bytes(Range{table + 4*n, table + 4*n + 4})
	if b == nil {
		return 0, false
	}
	return table + Addr(int64(int32(uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24))), true
}

// entered tells which ranges are entered from outside their function: where
// a symbol stands, where a call, an address or a pointer leads, or a jump from
// another function.
func (m *Module) entered(parts []part, at func(Addr) int) []bool {
	out := make([]bool, len(parts))
	mark := func(a Addr) {
		if j := at(a); j >= 0 && parts[j].Start == a {
			out[j] = true
		}
	}
	for i := range parts {
		p := &parts[i]
		code := m.Bytes(p.Range)
		for k := range p.ins {
			c := &p.ins[k]
			for _, o := range m.absolutesIn(p.Start+Addr(c.off), c.len) {
				mark(m.absolute(p.Start + Addr(c.off) + Addr(o)))
			}
			switch {
			case c.kind == uint8(x86.Call) || c.flags&insLEA != 0:
				mark(p.target(code, c))
			case c.branch():
				if t := p.target(code, c); !p.Contains(t) {
					if j := at(t); j >= 0 && find(parts, j) != find(parts, i) {
						mark(t)
					}
				}
			}
		}
	}
	for _, r := range m.Relocs {
		if a, ok := r.Leads(); ok {
			mark(a)
		}
	}
	for _, s := range m.Symbols {
		if isCode(&s) && !strings.Contains(s.Name, ".cold") {
			mark(s.Addr)
		}
	}
	return out
}

// assemble makes functions of the joined parts. The entry is the range that is
// entered from outside; of several the largest; of none the largest with the
// call frame of an entry.
func (m *Module) assemble(parts []part, entered []bool) {
	groups := make(map[int][]int)
	var order []int
	for i := range parts {
		g := find(parts, i)
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], i)
	}
	rank := func(i int) int {
		r := int(parts[i].Len())
		if !parts[i].isPart {
			r += 1 << 40
		}
		if entered[i] {
			r += 1 << 41
		}
		return r
	}
	m.Funcs = make([]*Func, len(order))
	members := make([][]int, len(order))
	for k, g := range order {
		ids := groups[g]
		best := slices.MaxFunc(ids, func(a, b int) int { return rank(a) - rank(b) })
		ids = append([]int{best}, slices.DeleteFunc(ids, func(i int) bool { return i == best })...)
		f := &Func{Orphan: parts[best].isPart}
		for _, i := range ids {
			f.Ranges = append(f.Ranges, parts[i].Range)
			f.FDEs = append(f.FDEs, parts[i].fde)
			if i == best || entered[i] {
				f.Entries = append(f.Entries, parts[i].Start)
			}
		}
		members[k], m.Funcs[k] = ids, f
	}
	parallel(len(m.Funcs), func(k int) {
		ps := make([]*part, len(members[k]))
		for i, id := range members[k] {
			ps[i] = &parts[id]
		}
		m.canon(m.Funcs[k], ps)
	})
	slices.SortFunc(m.Funcs, func(a, b *Func) int { return int(int64(a.Entry()) - int64(b.Entry())) })
	for i, f := range m.Funcs {
		f.id = i
		for k, r := range f.Ranges {
			m.spans = append(m.spans, span{r, f, k})
		}
	}
	m.sortSpans()
}

func (m *Module) sortSpans() {
	slices.SortFunc(m.spans, func(a, b span) int { return int(int64(a.Start) - int64(b.Start)) })
}

// FuncAt is the function or gap that holds a, or nil.
func (m *Module) FuncAt(a Addr) *Func {
	i := sort.Search(len(m.spans), func(i int) bool { return m.spans[i].Start > a }) - 1
	if i < 0 || !m.spans[i].Contains(a) {
		return nil
	}
	return m.spans[i].fn
}

// NextCode is the start of the first function range or gap after a, or the
// end of a's section.
func (m *Module) NextCode(a Addr) Addr {
	end := a
	if s := m.SectionAt(a); s != nil {
		end = s.End
	}
	i := sort.Search(len(m.spans), func(i int) bool { return m.spans[i].Start > a })
	if i < len(m.spans) {
		end = min(end, m.spans[i].Start)
	}
	return end
}

func (m *Module) nameFuncs() {
	byEntry := make(map[Addr]*Func, len(m.Funcs))
	for _, f := range m.Funcs {
		byEntry[f.Entry()] = f
	}
	for _, s := range m.Symbols {
		f := byEntry[s.Addr]
		if f == nil || !isCode(&s) {
			continue
		}
		if !slices.Contains(f.Names, s.Name) {
			f.Names = append(f.Names, s.Name)
		}
		f.Exported = f.Exported || s.Dynamic && !s.Local
	}
	for _, f := range m.Funcs {
		if f.Name = fmt.Sprintf("func_%x", uint64(f.Entry())); len(f.Names) > 0 {
			f.Name = f.Names[0]
		}
	}
}

// isCode reports whether a symbol names a place in code.
func isCode(s *Symbol) bool {
	return s.Defined && s.Name != "" && (s.Type == elf.STT_FUNC || s.Type == elf.STT_GNU_IFUNC || s.Type == elf.STT_NOTYPE)
}

// Place is a position in a function that means the same in another build in
// which the function's parts lie elsewhere.
type Place struct{ Part, Off int }

// PlaceOf is the place of a in f, which contains it.
func (f *Func) PlaceOf(a Addr) Place {
	for i, r := range f.Ranges {
		if r.Contains(a) {
			return Place{i, int(a - r.Start)}
		}
	}
	return Place{-1, 0}
}

// parallel runs f(0) to f(n-1) on all processors.
func parallel(n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for {
				lo := int(next.Add(64)) - 64
				if lo >= n {
					return
				}
				for i := lo; i < min(lo+64, n); i++ {
					f(i)
				}
			}
		})
	}
	wg.Wait()
}
