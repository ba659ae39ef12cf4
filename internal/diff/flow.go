package diff

import (
	"cmp"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// A value is what a register holds, as an expression of what the function was
// given: two values with one hash were computed alike, whatever registers the
// compiler chose. Offsets off pointers are not part of the hash but its leaves,
// in the order in which the expression names them.
type value struct {
	hash   uint64 // with numbers
	shape  uint64 // without numbers
	leaves []int64
	widths []uint8 // of the leaves, bytes; 0 for an address
	num    int64   // when isNum
	isNum  bool
	nums   []int64
	static bool        // an address in the module, plus something
	object module.Addr // which; where the baseline keeps it
	loaded module.Addr // a static object that was read for it
	table  module.Addr // constants that it was computed from
	copied bool        // as it was in a field
	outer  bool        // made of what the function was given, or of variables
	field  field       // that it is, or the address of which
	vague  bool        // not all of what it is made of is known
	lanes  []lane      // what a vector register was put together from
}

// A field is what is at an offset off a pointer.
type field struct {
	base   uint64 // hash of the pointer; 0 for no field
	offset int64
	width  uint8 // bytes that were read; 0 for the address
}

// A lane is one element of a vector register.
type lane struct {
	size  uint8 // bytes
	value value
}

const maxLeaves = 12

// A sink is where a value takes effect: a store, a comparison, an argument of
// a call, a result.
type sink struct {
	kind   sinkKind
	hash   uint64
	shape  uint64
	what   uint64      // hash without the size of a store
	field  field       // of an argument
	callee module.Addr // that is given it
	table  module.Addr // constants that it was computed from
	place  uint64      // hash of call, argument and pointer, of a field
	leaves []int64
	widths []uint8
	offset int64 // that is stored to, when fielded
	num    int64 // number that is stored, when isNum
	size   uint8
	object module.Addr // the static object that is stored to
	loaded module.Addr // the static object that was read, of a comparison
	nums   []int64
	isNum  bool
	fielded,
	direct, // the place has no displacement: the address is the object's
	update, // it stores what it computes from what was there
	copied,
	part, // of a store of several fields, or of bytes of a number
	vague bool
	op   byte // or, and, xor with a number: 1, 4, 6
	cond byte // of a comparison: what is asked next of the flags
	at   module.Addr
}

type sinkKind uint8

const (
	sinkStore sinkKind = iota + 1
	sinkCompare
	sinkCall
	sinkReturn
)

// A site is a call.
type site struct {
	callee module.Addr // 0: by a pointer
	first  value       // argument
	intact [6]bool     // parameters of the caller that are still in their registers
	at     module.Addr
}

// A flow follows values through one body, along its jumps and through each
// instruction once: what a loop carries back to its start is left out. That is
// not exact, but the same for both builds.
type flow struct {
	c   *comparer
	m   *module.Module
	f   *module.Func
	old bool
	state
	sites   []site
	calls   map[uint64]uint64 // of each function, so far
	swapped [2]byte           // registers whose arguments change places
	// pointers are the hashes of what was read or stored through.
	pointers map[uint64]bool
	cond     byte // what is asked next of the flags
	sinks    []sink
	args     [16]bool // argument registers that were read before that
	// handed are, by callee, the numbers of the last parameter that was set.
	handed map[module.Addr][]int
}

// mix combines two hashes (splitmix64's finisher).
func mix(a, b uint64) uint64 {
	a = (a ^ b*0x9e3779b97f4a7c15) + 0x632be59bd9b4e019
	a = (a ^ a>>30) * 0xbf58476d1ce4e5b9
	a = (a ^ a>>27) * 0x94d049bb133111eb
	return a ^ a>>31
}

func opaque(tag, n uint64) value {
	h := mix(tag, n)
	return value{hash: h, shape: h, vague: tag != tagArg, outer: tag == tagArg}
}

func number64(n int64) value {
	return value{hash: mix(11, uint64(n)), shape: mix(11, 0), num: n, isNum: true, nums: []int64{n}}
}

func combine(op uint64, vs ...value) value {
	out := value{hash: mix(op, 1), shape: mix(op, 2)}
	for _, v := range vs {
		out.hash, out.shape = mix(out.hash, v.hash), mix(out.shape, v.shape)
		out.leaves, out.nums = append(out.leaves, v.leaves...), append(out.nums, v.nums...)
		out.widths = append(out.widths, v.widths...)
		if out.object == 0 {
			out.object = v.object
		}
		if out.loaded == 0 {
			out.loaded = v.loaded
		}
		if out.table == 0 {
			out.table = v.table
		}
		out.static, out.vague, out.outer = out.static || v.static, out.vague || v.vague, out.outer || v.outer
	}
	out.vague = out.vague || len(out.leaves) > maxLeaves
	out.nums = out.nums[:min(len(out.nums), maxLeaves)]
	out.leaves, out.widths = out.leaves[:min(len(out.leaves), maxLeaves)], out.widths[:min(len(out.widths), maxLeaves)]
	return out
}

// commute combines two values whose order does not matter.
func commute(op uint64, a, b value) value {
	if order(&a, &b) > 0 {
		a, b = b, a
	}
	return combine(op, a, b)
}

// order compares two operands, the numbers in them last.
func order(a, b *value) int {
	return cmp.Or(cmp.Compare(a.shape, b.shape), slices.Compare(a.leaves, b.leaves), slices.Compare(a.nums, b.nums))
}

const (
	tagArg = iota + 100
	tagStack
	tagStatic
	tagLoad
	tagResult
	tagOp
	tagAddress
	tagCond
	tagFrame
	tagEither
)

// flowOf runs through a body and returns where its values take effect.
func (c *comparer) flowOf(m *module.Module, f *module.Func) *flow {
	if w, ok := c.flows[f]; ok {
		return w
	}
	w := c.newFlow(m, f)
	c.flows[f] = w
	w.run(c.body(m, f))
	return w
}

func (c *comparer) newFlow(m *module.Module, f *module.Func) *flow {
	return &flow{c: c, m: m, f: f, old: m == c.Old, calls: make(map[uint64]uint64), pointers: make(map[uint64]bool), handed: make(map[module.Addr][]int)}
}

// condition is the condition, without its negation, that the next instruction
// to look at the flags asks for (SDM volume 1, appendix B); 0 when none is near.
func condition(rest []module.Instr) byte {
	const reach = 6 // instructions
	for i := range rest[:min(len(rest), reach)] {
		in := &rest[i]
		switch {
		case in.Kind == x86.Jcc && in.Map == 0 && in.Opcode&0xf0 == 0x70, in.Kind == x86.Jcc && in.Map == 1,
			in.Kind == x86.Other && in.Map == 1 && !in.VEX && (in.Opcode&0xf0 == 0x40 || in.Opcode&0xf0 == 0x90):
			return in.Opcode & 0x0e
		case in.Kind != x86.Other:
			return 0
		}
	}
	return 0
}

// place is a memory operand: the value of its address without the
// displacement, and the displacement.
type place struct {
	base   value
	disp   int64
	frame  bool // in the stack frame, at disp
	local  bool // in the stack frame, somewhere
	static module.Addr
}

func (w *flow) place(in *module.Instr) place {
	if in.RIP {
		t := module.Addr(in.Target(uint64(in.At)))
		return place{base: w.name(t), static: t}
	}
	mod, rm := in.ModRM>>6, in.ModRM&7|in.REX&1<<3
	if in.DispAddr != 0 {
		return w.absolute(in)
	}
	if !in.HasSIB {
		b := w.read(rm)
		if rm == 5 && b.hash == opaque(tagFrame, 0).hash {
			return place{base: b, disp: in.Disp + 1<<40, frame: true} // apart from those off rsp
		}
		return place{base: b, disp: in.Disp}
	}
	base, index := in.SIB&7|in.REX&1<<3, in.SIB>>3&7|in.REX&2<<2
	var v value
	switch {
	case in.SIB&7 == 5 && mod == 0:
		v = number64(0)
	case base == 4:
		if index == 4 {
			return place{base: *w.regs[4], disp: in.Disp + w.rsp, frame: true}
		}
		v = *w.regs[4]
	default:
		v = w.read(base)
	}
	if v.hash == opaque(tagFrame, 0).hash {
		return place{base: v, local: true}
	}
	if index != 4 {
		v = combine(mix(tagAddress, uint64(in.SIB>>6)), v, w.read(index))
	}
	return place{base: v, disp: in.Disp}
}

// absolute is a memory operand whose displacement is an address.
func (w *flow) absolute(in *module.Instr) place {
	p := place{base: w.name(in.DispAddr), static: in.DispAddr}
	with := func(scale byte, r byte) {
		p.base, p.static = combine(mix(tagAddress, uint64(scale)), p.base, w.read(r)), 0
	}
	switch base, index := in.SIB&7|in.REX&1<<3, in.SIB>>3&7|in.REX&2<<2; {
	case !in.HasSIB:
		with(0, in.ModRM&7|in.REX&1<<3)
	default:
		if in.ModRM>>6 != 0 || in.SIB&7 != 5 {
			with(0, base)
		}
		if index != 4 {
			with(in.SIB>>6, index)
		}
	}
	return p
}

// immediate is the value of an immediate operand.
func (w *flow) immediate(in *module.Instr) value {
	if in.ImmAddr != 0 {
		return w.name(in.ImmAddr)
	}
	return number64(in.Imm)
}

// name is the value of an address in the module, the same in both builds.
func (w *flow) name(t module.Addr) value {
	s := w.m.SectionAt(t)
	v := value{static: s != nil && s.Write && !isGOT(s)}
	v.outer = v.static
	var h uint64 = 1
	switch {
	case v.static && w.old:
		h, v.object = uint64(t), t
	case v.static:
		if o, ok := w.c.data.Old(t); ok {
			h, v.object = uint64(o), o
		}
	case s != nil:
		v.table = t
		for _, ch := range []byte(w.c.key(w.m, t, w.old)) {
			h = mix(h, uint64(ch))
		}
	}
	v.hash, v.vague = mix(tagStatic, h), h == 1
	v.shape = v.hash
	return v
}

func (w *flow) read(r byte) value {
	if r < 16 && !w.live[r] {
		w.args[r] = true
	}
	return *w.regs[r]
}

func (w *flow) set(r byte, v value) { w.regs[r] = &v }

func (w *flow) push(v value) { w.stack[w.rsp] = &v }

func (w *flow) write(r byte, v value) {
	if r < 16 {
		w.live[r] = true
	}
	if r != 4 {
		w.regs[r] = &v
	}
}

// load is the value at a place.
func (w *flow) load(in *module.Instr, p place) value {
	if p.local {
		return opaque(tagStack, 2)
	}
	if p.frame {
		if v, ok := w.stack[p.disp]; ok {
			return *v
		}
		return opaque(tagStack, 0)
	}
	if p.static != 0 {
		if v, ok := w.constant(p.static, in.MemSize); ok {
			return v
		}
		v := combine(tagLoad, p.base)
		v.static, v.object, v.loaded = false, 0, p.base.object
		return v
	}
	v := combine(tagLoad, p.base)
	v.static, v.object, v.loaded = false, 0, p.base.object
	v.leaves, v.copied = append(slices.Clone(v.leaves), p.disp), true
	v.widths = append(slices.Clone(v.widths), in.MemSize)
	v.field = field{p.base.hash, p.disp, in.MemSize}
	w.pointers[p.base.hash] = true
	return v
}

// constant is a constant of the module, where there is one: a number, or of a
// vector register its elements.
func (w *flow) constant(a module.Addr, size uint8) (value, bool) {
	s := w.m.SectionAt(a)
	r := module.Range{Start: a, End: a + module.Addr(size)}
	if s == nil || s.Write || s.Exec || len(w.m.RelocsIn(r)) > 0 {
		return value{}, false
	}
	b := w.m.Bytes(r)
	switch {
	case b == nil:
	case size == 1 || size == 2 || size == 4 || size == 8:
		return number64(little(b)), true
	case size == 16:
		all := value{hash: 3, shape: 3}
		for ; len(b) > 0; b = b[4:] {
			n := number64(little(b[:4]))
			all.hash, all.nums, all.lanes = mix(all.hash, n.hash), append(all.nums, n.num), append(all.lanes, lane{4, n})
		}
		return all, true
	}
	return value{}, false
}

// little is a number of up to 8 bytes, with its sign.
func little(b []byte) int64 {
	var n uint64
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return int64(n<<shift) >> shift
}

// store notes what is stored at a place, also in its parts: a compiler stores
// neighbours at once.
func (w *flow) store(in *module.Instr, p place, v value, size uint8) {
	if p.local {
		return
	}
	if p.frame {
		w.stack[p.disp] = &v
		return
	}
	w.pointers[p.base.hash] = true
	one := func(v value, disp int64, size uint8, whole bool) {
		s := sink{kind: sinkStore, at: in.At, offset: disp, size: size, num: v.num, isNum: v.isNum, object: p.base.object, nums: v.nums, vague: v.vague || p.base.vague}
		s.direct = p.static != 0
		s.fielded, s.copied = !p.base.static, v.copied && len(v.leaves) > 0
		s.update = v.loaded != 0 && v.loaded == s.object
		s.hash = mix(mix(mix(uint64(sinkStore), uint64(size)), p.base.hash), v.hash)
		s.shape = mix(mix(mix(uint64(sinkStore), uint64(size)), p.base.shape), v.shape)
		if p.static == 0 {
			s.leaves, s.widths = append(s.leaves, disp), append(s.widths, size)
		}
		s.leaves = append(append(s.leaves, p.base.leaves...), v.leaves...)
		s.widths = append(append(s.widths, p.base.widths...), v.widths...)
		s.what, s.part = mix(mix(uint64(sinkStore), p.base.hash), v.hash), !whole
		w.sinks = append(w.sinks, s)
	}
	one(v, p.disp, size, true)
	at := p.disp
	for _, l := range v.lanes {
		if len(v.lanes) > 1 {
			one(l.value, at, l.size, false)
		}
		at += int64(l.size)
	}
	if !v.isNum {
		return
	}
	for part := size / 2; part > 0; part /= 2 {
		for k := uint8(0); k < size; k += part {
			shift := 64 - 8*uint(part)
			one(number64(v.num>>(8*uint(k))<<shift>>shift), p.disp+int64(k), part, false)
		}
	}
}

// compare notes a comparison of two values. The order of the two goes with the
// condition that is asked for: below is the other side of above.
func (w *flow) compare(in *module.Instr, op byte, a, b value, size uint8) {
	x, y, cond := a, b, w.cond
	ordered := cond == 2 || cond == 6 || cond == 12 || cond == 14
	switch {
	case op == 7 && ordered && (a.shape > b.shape || a.shape == b.shape && (cond == 6 || cond == 14)):
		x, y, cond = b, a, map[byte]byte{2: 6, 6: 2, 12: 14, 14: 12}[cond]
	case !ordered && order(&a, &b) > 0:
		x, y = b, a
	}
	v := combine(mix(mix(tagCond, uint64(op)), uint64(cond)), x, y)
	// Whether it counts with a sign goes with the width of a field.
	what := combine(mix(mix(tagCond, uint64(op)), uint64(unsigned(cond))), x, y).hash
	s := sink{kind: sinkCompare, hash: v.hash, shape: v.shape, leaves: v.leaves, widths: v.widths, what: what, at: in.At, op: op, cond: cond, size: size, nums: v.nums, loaded: v.loaded, vague: v.vague}
	w.sinks = append(w.sinks, s)
}

// unsigned is the condition that counts without a sign.
func unsigned(cond byte) byte {
	switch cond {
	case 12:
		return 2
	case 14:
		return 6
	}
	return cond
}

// destination is where a call to a leads: a stub or a slot may lead back into
// the module.
func destination(m *module.Module, a module.Addr) module.Addr {
	slot, ok := m.Stub(a)
	if !ok {
		slot = a
	}
	if r, ok := m.RelocAt(slot); ok {
		if to, ok := r.Leads(); ok {
			return to
		}
	}
	return a
}

// call notes the arguments that were set since the last call, and forgets
// what a call may overwrite (psABI 3.2.1).
func (w *flow) call(in *module.Instr, callee value, set bool) {
	last := 0
	st := site{first: *w.regs[7], at: in.At}
	for i, r := range parameters {
		if st.intact[i] = !w.live[r]; !st.intact[i] && w.regs[r].hash != opaque(tagResult, uint64(r)).hash {
			last = i + 1
		}
	}
	if in.Relative() {
		st.callee = destination(w.m, module.Addr(in.Target(uint64(in.At))))
	}
	w.sites = append(w.sites, st)
	same := callee.hash // calls of it with these arguments
	w.handed[st.callee] = append(w.handed[st.callee], last)
	for i, r := range parameters {
		v := *w.regs[r]
		if !set || !w.live[r] || v.hash == opaque(tagResult, uint64(r)).hash {
			continue
		}
		same = mix(same, mix(uint64(i), v.hash))
		h := mix(mix(uint64(sinkCall), uint64(i)), callee.hash)
		s := sink{kind: sinkCall, hash: mix(h, v.hash), what: mix(h, v.hash), widths: v.widths, shape: mix(h, v.shape), leaves: v.leaves, nums: v.nums, at: in.At, vague: v.vague}
		s.callee, s.table = st.callee, v.table
		if v.field.base != 0 && v.outer {
			s.field, s.place = v.field, mix(h, v.field.base)
		}
		w.sinks = append(w.sinks, s)
	}
	for _, r := range []byte{0, 1, 2, 6, 7, 8, 9, 10, 11} {
		w.set(r, opaque(tagResult, uint64(r)))
		w.live[r] = true
	}
	w.calls[same]++
	v := combine(mix(mix(tagResult, w.calls[same]), same), callee, opaque(tagResult, 0))
	v.leaves, v.widths, v.static = nil, nil, false
	w.set(0, v)
	for r := byte(16); r < 32; r++ {
		w.set(r, opaque(tagResult, uint64(r)))
	}
}
