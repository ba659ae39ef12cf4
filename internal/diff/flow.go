package diff

import (
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
	num    int64 // when isNum
	isNum  bool
	static bool   // an address in the module, plus something
	vague  bool   // not all of what it is made of is known
	lanes  []lane // what a vector register was put together from
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
	leaves []int64
	field  int64 // offset that is stored to or compared, when isField
	num    int64 // number that is stored or compared, when isNum
	size   uint8
	static module.Addr // the static object that is stored to
	isNum  bool
	fielded,
	update, // it stores what it computes from what was there
	vague bool
	op    byte
	value value
	at    module.Addr
}

type sinkKind uint8

const (
	sinkStore sinkKind = iota + 1
	sinkCompare
	sinkCall
	sinkReturn
)

// A flow follows values through one body, in the order of its instructions: a
// place that a jump leads to takes over the values from before it or from the
// first jump to it. That is not exact where ways join, but the same for both builds.
type flow struct {
	c     *comparer
	m     *module.Module
	f     *module.Func
	old   bool
	regs  [32]value // general registers, then vector registers
	stack map[int64]value
	rsp   int64
	calls map[uint64]uint64 // of each function, so far
	cond  byte              // what is asked next of the flags
	sinks []sink
	saved map[module.Addr][32]value
	live  [16]bool // argument registers that were written
	args  [16]bool // argument registers that were read before
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
	return value{hash: h, shape: h, vague: tag != tagArg}
}

func number64(n int64) value {
	return value{hash: mix(11, uint64(n)), shape: mix(11, 0), num: n, isNum: true}
}

func combine(op uint64, vs ...value) value {
	out := value{hash: mix(op, 1), shape: mix(op, 2)}
	for _, v := range vs {
		out.hash, out.shape = mix(out.hash, v.hash), mix(out.shape, v.shape)
		out.leaves = append(out.leaves, v.leaves...)
		out.static, out.vague = out.static || v.static, out.vague || v.vague
	}
	if len(out.leaves) > maxLeaves {
		out.leaves, out.vague = out.leaves[:maxLeaves], true
	}
	return out
}

// commute combines two values whose order does not matter.
func commute(op uint64, a, b value) value {
	if a.hash > b.hash || a.hash == b.hash && slices.Compare(a.leaves, b.leaves) > 0 {
		a, b = b, a
	}
	return combine(op, a, b)
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
)

// follow runs through a body and returns where its values take effect.
func (c *comparer) follow(m *module.Module, f *module.Func) *flow {
	if w, ok := c.flows[f]; ok {
		return w
	}
	body := c.body(m, f)
	w := &flow{c: c, m: m, f: f, old: m == c.Old, stack: make(map[int64]value), saved: make(map[module.Addr][32]value)}
	for i := range w.regs {
		w.regs[i] = opaque(tagArg, uint64(i))
	}
	w.regs[4] = opaque(tagFrame, 0)
	falls := true
	for i := range body {
		in := &body[i]
		if s, ok := w.saved[in.At]; ok && !falls {
			w.regs = s
		}
		w.cond = condition(body[i+1:])
		w.step(in)
		falls = in.Kind != x86.Jmp && in.Kind != x86.Ret && in.Kind != x86.JmpInd && in.Kind != x86.Trap
	}
	if c.flows == nil {
		c.flows = make(map[*module.Func]*flow)
	}
	c.flows[f] = w
	return w
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
	static module.Addr
}

func (w *flow) place(in *module.Instr) place {
	if in.RIP {
		t := module.Addr(in.Target(uint64(in.At)))
		return place{base: w.name(t), static: t}
	}
	mod, rm := in.ModRM>>6, in.ModRM&7|in.REX&1<<3
	if !in.HasSIB {
		b := w.read(rm)
		if rm == 5 && b.hash == opaque(tagFrame, 0).hash {
			return place{base: b, disp: in.Disp, frame: true}
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
			return place{base: w.regs[4], disp: in.Disp + w.rsp, frame: true}
		}
		v = w.regs[4]
	default:
		v = w.read(base)
	}
	if index != 4 {
		v = combine(mix(tagAddress, uint64(in.SIB>>6)), v, w.read(index))
	}
	return place{base: v, disp: in.Disp}
}

// name is the value of an address in the module, the same in both builds.
func (w *flow) name(t module.Addr) value {
	s := w.m.SectionAt(t)
	v := value{static: s != nil && s.Write && !isGOT(s)}
	var h uint64 = 1
	switch {
	case v.static && w.old:
		h = uint64(t)
	case v.static:
		if o, ok := w.c.data.Old(t); ok {
			h = uint64(o)
		}
	case s != nil:
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
	return w.regs[r]
}

func (w *flow) write(r byte, v value) {
	if r < 16 {
		w.live[r] = true
	}
	if r != 4 {
		w.regs[r] = v
	}
}

// load is the value at a place.
func (w *flow) load(in *module.Instr, p place) value {
	if p.frame {
		if v, ok := w.stack[p.disp]; ok {
			return v
		}
		return opaque(tagStack, 0)
	}
	if p.static != 0 {
		if b := w.constant(p.static, in.MemSize); b != nil {
			return b[0].value
		}
		v := combine(mix(tagLoad, uint64(in.MemSize)), p.base)
		v.static = false
		return v
	}
	v := combine(mix(tagLoad, uint64(in.MemSize)), p.base)
	v.static = false
	v.leaves = append(slices.Clone(v.leaves), p.disp)
	return v
}

// constant reads a constant of 4, 8 or 16 bytes as its elements, after one
// that stands for all of it.
func (w *flow) constant(a module.Addr, size uint8) []lane {
	s := w.m.SectionAt(a)
	if s == nil || s.Write || s.Exec || size != 4 && size != 8 && size != 16 {
		return nil
	}
	b := w.m.Bytes(module.Range{Start: a, End: a + module.Addr(size)})
	if b == nil {
		return nil
	}
	all := value{hash: 3, shape: 3}
	var lanes []lane
	for i := 0; i < len(b); i += 4 {
		n := int64(int32(uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16 | uint32(b[i+3])<<24))
		all.hash = mix(all.hash, uint64(n))
		lanes = append(lanes, lane{4, number64(n)})
	}
	all.lanes = lanes
	return append([]lane{{size, all}}, lanes...)
}

// store notes what is stored at a place, also in its parts: a compiler stores
// neighbours at once.
func (w *flow) store(in *module.Instr, p place, v value, size uint8) {
	if p.frame {
		w.stack[p.disp] = v
		return
	}
	one := func(v value, disp int64, size uint8) {
		s := sink{kind: sinkStore, at: in.At, field: disp, size: size, num: v.num, isNum: v.isNum, static: p.static, value: v, vague: v.vague || p.base.vague}
		s.fielded = p.static == 0
		s.hash = mix(mix(mix(uint64(sinkStore), uint64(size)), p.base.hash), v.hash)
		s.shape = mix(mix(mix(uint64(sinkStore), uint64(size)), p.base.shape), v.shape)
		if p.static == 0 {
			s.leaves = append(s.leaves, disp)
		}
		s.leaves = append(append(s.leaves, p.base.leaves...), v.leaves...)
		w.sinks = append(w.sinks, s)
	}
	one(v, p.disp, size)
	at := p.disp
	for _, l := range v.lanes {
		if len(v.lanes) > 1 {
			one(l.value, at, l.size)
		}
		at += int64(l.size)
	}
	if !v.isNum {
		return
	}
	for part := size / 2; part > 0; part /= 2 {
		for k := uint8(0); k < size; k += part {
			shift := 64 - 8*uint(part)
			one(number64(v.num>>(8*uint(k))<<shift>>shift), p.disp+int64(k), part)
		}
	}
}

// compare notes a comparison of two values. The order of the two goes with the
// condition that is asked for: below is the other side of above.
func (w *flow) compare(in *module.Instr, op byte, a, b value, size uint8) {
	x, y, cond := a, b, w.cond
	ordered := cond == 2 || cond == 6 || cond == 12 || cond == 14
	switch {
	case op == 7 && ordered && (a.hash > b.hash || a.hash == b.hash && (cond == 6 || cond == 14)):
		x, y, cond = b, a, map[byte]byte{2: 6, 6: 2, 12: 14, 14: 12}[cond]
	case !ordered && (a.hash > b.hash || a.hash == b.hash && slices.Compare(a.leaves, b.leaves) > 0):
		x, y = b, a
	}
	v := combine(mix(mix(tagCond, uint64(op)), uint64(cond)), x, y)
	s := sink{kind: sinkCompare, hash: v.hash, shape: v.shape, leaves: v.leaves, at: in.At, op: op, size: size, num: b.num, isNum: b.isNum, vague: v.vague}
	if len(a.leaves) == 1 {
		s.field, s.fielded = a.leaves[0], true
	}
	w.sinks = append(w.sinks, s)
}

// call notes the arguments that were set since the last call, and forgets
// what a call may overwrite (psABI 3.2.1).
func (w *flow) call(in *module.Instr, callee value, set bool) {
	for i, r := range []byte{7, 6, 2, 1, 8, 9} {
		v := w.regs[r]
		if !set || !w.live[r] || v.hash == opaque(tagResult, uint64(r)).hash {
			continue
		}
		h := mix(mix(uint64(sinkCall), uint64(i)), callee.hash)
		w.sinks = append(w.sinks, sink{kind: sinkCall, hash: mix(h, v.hash), shape: mix(h, v.shape), leaves: v.leaves, at: in.At, vague: v.vague})
	}
	for _, r := range []byte{0, 1, 2, 6, 7, 8, 9, 10, 11} {
		w.regs[r], w.live[r] = opaque(tagResult, uint64(r)), true
	}
	if w.calls == nil {
		w.calls = make(map[uint64]uint64)
	}
	w.calls[callee.hash]++
	w.regs[0] = combine(mix(tagResult, w.calls[callee.hash]), callee, opaque(tagResult, 0))
	w.regs[0].leaves, w.regs[0].static = nil, false
	for r := 16; r < 32; r++ {
		w.regs[r] = opaque(tagResult, uint64(r))
	}
}
