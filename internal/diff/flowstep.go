package diff

import (
	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// step follows one instruction. Opcodes are those of the Intel SDM volume 2,
// appendix A; what is not known in particular computes its register operand
// from both operands.
func (w *flow) step(in *module.Instr) {
	switch in.Kind {
	case x86.Call:
		w.call(in, w.name(module.Addr(in.Target(uint64(in.At)))), true)
		return
	case x86.CallInd:
		w.call(in, w.operand(in), true)
		return
	case x86.Jmp, x86.Jcc:
		t := module.Addr(in.Target(uint64(in.At)))
		if in.Kind == x86.Jmp && !w.f.Contains(t) { // a tail call
			w.call(in, w.name(t), true)
		}
		return
	case x86.JmpInd:
		w.call(in, w.operand(in), !in.RIP)
		return
	case x86.Ret:
		for _, r := range []int{0, 16} {
			v := *w.regs[r]
			w.sinks = append(w.sinks, sink{kind: sinkReturn, hash: mix(sinkReturnTag, v.hash), what: mix(sinkReturnTag, v.hash), widths: v.widths, shape: mix(sinkReturnTag, v.shape), leaves: v.leaves, nums: v.nums, at: in.At, vague: v.vague})
		}
		return
	case x86.Other:
	default:
		return
	}
	in = wholeRegisters(in)
	switch {
	case in.VEX:
		w.vector(in)
	case in.Map == 0:
		w.oneByte(in)
	case in.Map == 1:
		w.twoByte(in)
	default:
		w.vector(in)
	}
}

// wholeRegisters is an instruction with ah, ch, dh and bh replaced by the
// registers that they are the second byte of: as operands of 8 bits without REX
// they have the numbers of rsp, rbp, rsi and rdi (SDM volume 2, table 3-1).
func wholeRegisters(in *module.Instr) *module.Instr {
	op := in.Opcode
	if in.REX != 0 || in.VEX || in.Map > 1 {
		return in
	}
	var isReg, isRM bool // whether ModRM's fields are registers of 8 bits
	switch {
	case in.Map == 1:
		isRM = op == 0xb6 || op == 0xbe || op&0xf0 == 0x90 || op == 0xb0 || op == 0xc0
		isReg = op == 0xb0 || op == 0xc0
	case op&0xfc == 0xb4: // mov of a number, the register in the opcode
		out := *in
		out.Opcode &^= 4
		return &out
	case op < 0x40 && op&7 < 4, op >= 0x84 && op < 0x8c:
		isReg, isRM = op&1 == 0, op&1 == 0
	case op == 0x80, op == 0xc0, op == 0xc6, op == 0xd0, op == 0xd2, op == 0xf6, op == 0xfe:
		isRM = true
	}
	low := in.ModRM
	if isReg {
		low &^= 4 << 3
	}
	if isRM && in.ModRM>>6 == 3 {
		low &^= 4
	}
	if !in.HasModRM || low == in.ModRM {
		return in
	}
	out := *in
	out.ModRM = low
	return &out
}

const sinkReturnTag = uint64(sinkReturn) << 32

// operand is the value of the operand that ModRM's r/m names, a general register or memory.
func (w *flow) operand(in *module.Instr) value {
	if !in.HasModRM {
		return opaque(tagOp, 0)
	}
	if in.ModRM>>6 == 3 {
		return w.read(in.ModRM&7 | in.REX&1<<3)
	}
	return w.load(in, w.place(in))
}

// assign writes a value to the operand that ModRM's r/m names.
func (w *flow) assign(in *module.Instr, v value, size uint8) {
	if in.ModRM>>6 == 3 {
		w.write(in.ModRM&7|in.REX&1<<3, v)
		return
	}
	w.store(in, w.place(in), v, size)
}

// width is the operand size of an instruction with operands of 2, 4 or 8 bytes.
func operandSize(in *module.Instr) uint8 {
	switch {
	case in.REX&8 != 0:
		return 8
	case in.Data16:
		return 2
	}
	return 4
}

// alu computes one of the eight operations of opcodes 00 to 3f: add, or, adc,
// sbb, and, sub, xor, cmp.
func (w *flow) alu(in *module.Instr, op byte, a, b value, size uint8, to func(value)) {
	tag := mix(tagOp, uint64(op))
	switch {
	case op == 7:
		w.compare(in, op, a, b, size)
	case (op == 5 || op == 6) && a.hash == b.hash && !a.isNum:
		to(number64(0))
	case op == 0 || op == 1 || op == 4 || op == 6:
		to(commute(tag, a, b))
	default:
		to(combine(tag, a, b))
	}
}

func (w *flow) oneByte(in *module.Instr) {
	op, size := in.Opcode, operandSize(in)
	if op&1 == 0 && (op < 0x40 || op >= 0x80 && op <= 0x8b || op >= 0xc0) {
		size = 1
	}
	r := reg(in)
	switch {
	case op < 0x40 && op&7 < 6:
		w.aluForm(in, size)
	case op >= 0x50 && op < 0x58:
		w.rsp -= 8
		w.stack[w.rsp] = w.regs[op&7|in.REX&1<<3]
	case op >= 0x58 && op < 0x60:
		v := opaque(tagStack, 0)
		if u, ok := w.stack[w.rsp]; ok {
			v = *u
		}
		w.rsp += 8
		w.write(op&7|in.REX&1<<3, v)
	case op == 0x63:
		w.write(r, w.extend(in))
	case op == 0x68 || op == 0x6a:
		w.rsp -= 8
		w.push(w.immediate(in))
	case op == 0x69 || op == 0x6b:
		w.write(r, combine(mix(tagOp, 0x69), w.operand(in), w.immediate(in)))
	case op == 0x80 || op == 0x81 || op == 0x83:
		w.aluImmediate(in, size)
	case op == 0x84 || op == 0x85:
		w.compare(in, op&^1, w.operand(in), w.read(r), size)
	case op == 0xa8 || op == 0xa9:
		w.compare(in, 0x84, w.read(0), w.immediate(in), size)
	case op == 0x86 || op == 0x87:
		v, old := w.operand(in), w.read(r)
		w.assign(in, old, size)
		w.write(r, v)
	case op == 0x88 || op == 0x89:
		w.assign(in, w.read(r), size)
	case op == 0x8a || op == 0x8b:
		w.write(r, w.operand(in))
	case op == 0x8d:
		w.address(in, r)
	case op == 0x98:
		w.write(0, combine(mix(tagOp, 0x98), w.read(0)))
	case op == 0x99:
		w.write(2, combine(mix(tagOp, 0x99), w.read(0)))
	case op&0xf0 == 0xb0:
		w.write(op&7|in.REX&1<<3, w.immediate(in))
	case op == 0xc6 || op == 0xc7:
		w.assign(in, w.immediate(in), size)
	case op == 0xc0 || op == 0xc1 || op >= 0xd0 && op <= 0xd3:
		w.shift(in, size)
	case op == 0xf6 || op == 0xf7:
		w.unary(in, size)
	case op == 0xfe || op == 0xff:
		w.increment(in, size)
	case op >= 0xa4 && op <= 0xab:
		v := combine(mix(tagOp, uint64(op)), w.read(7), w.read(6), w.read(1), w.read(0))
		w.sinks = append(w.sinks, sink{kind: sinkCall, hash: v.hash, shape: v.shape, leaves: v.leaves, nums: v.nums, at: in.At, vague: v.vague})
	case in.HasModRM && in.ModRM>>6 != 3 && op >= 0xd8 && op <= 0xdf: // x87
		p := w.place(in)
		v := combine(mix(mix(tagOp, uint64(op)), uint64(r)), p.base)
		w.sinks = append(w.sinks, sink{kind: sinkStore, hash: v.hash, shape: v.shape, leaves: append(v.leaves, p.disp), at: in.At, vague: true})
	}
}

// filled marks the width of a field that was filled up to a register's size.
const filled = 0x80

// extend is a load or move that fills the register up, or finds a bit: what is
// loaded is one field, however wide the register, and what is stored in one.
func (w *flow) extend(in *module.Instr) value {
	fills := in.Map == 0 || in.Opcode == 0xb6 || in.Opcode == 0xb7 || in.Opcode == 0xbe || in.Opcode == 0xbf
	v := w.operand(in)
	switch n := len(v.widths); {
	case fills && in.ModRM>>6 == 3:
		return v
	case fills:
		if n > 0 && v.copied {
			v.widths = append(append([]uint8{}, v.widths[:n-1]...), v.widths[n-1]|filled)
		}
		return v
	}
	return combine(mix(tagOp, uint64(in.Opcode)|uint64(in.Map)<<8), v)
}

// aluForm is an operation of two operands, or of the accumulator and a number.
func (w *flow) aluForm(in *module.Instr, size uint8) {
	op, r := in.Opcode>>3, reg(in)
	to := func(v value) { w.write(r, v) }
	if op == 6 && in.Opcode&7 < 4 && in.ModRM>>6 == 3 && in.ModRM&7|in.REX&1<<3 == r {
		to(number64(0)) // xor of a register with itself reads nothing
		return
	}
	switch in.Opcode & 7 {
	case 0, 1:
		w.alu(in, op, w.operand(in), w.read(r), size, func(v value) { w.put(in, v, size) })
	case 2, 3:
		w.alu(in, op, w.read(r), w.operand(in), size, to)
	default:
		w.alu(in, op, w.read(0), w.immediate(in), size, func(v value) { w.write(0, v) })
	}
}

// put stores what was computed from what was at the same place.
func (w *flow) put(in *module.Instr, v value, size uint8) {
	n := len(w.sinks)
	w.assign(in, v, size)
	for i := n; i < len(w.sinks); i++ {
		w.sinks[i].update = true
	}
}

func (w *flow) aluImmediate(in *module.Instr, size uint8) {
	op := in.ModRM >> 3 & 7
	if in.ModRM>>6 == 3 && in.ModRM&7 == 4 && in.REX&1 == 0 { // rsp
		switch op {
		case 0:
			w.rsp += in.Imm
		case 5:
			w.rsp -= in.Imm
		}
		return
	}
	n := len(w.sinks)
	a := w.operand(in)
	w.alu(in, op, a, w.immediate(in), size, func(v value) {
		if op == 0 && size == 8 {
			v.field = field{base: a.hash, offset: in.Imm} // like lea
		}
		w.put(in, v, size)
	})
	for i := n; i < len(w.sinks); i++ {
		if s := &w.sinks[i]; s.kind == sinkStore {
			s.op = op
		}
	}
}

// address is lea: of a static object, or of a field.
func (w *flow) address(in *module.Instr, r byte) {
	p := w.place(in)
	switch {
	case p.frame, p.local:
		w.write(r, opaque(tagStack, 1))
	case p.static != 0:
		w.write(r, p.base)
	default:
		v := combine(tagAddress, p.base)
		if in.Disp != 0 {
			v.leaves, v.widths = append(append([]int64{}, v.leaves...), in.Disp), append(append([]uint8{}, v.widths...), 0)
			v.field = field{base: p.base.hash, offset: in.Disp}
		}
		w.write(r, v)
	}
}

func (w *flow) shift(in *module.Instr, size uint8) {
	by := number64(1)
	switch {
	case in.ImmLen > 0:
		by = w.immediate(in)
	case in.Opcode >= 0xd2:
		by = w.read(1)
	}
	w.put(in, combine(mix(mix(tagOp, 0xc0), uint64(in.ModRM>>3&7)), w.operand(in), by), size)
}

// unary is test, not, neg, mul, imul, div, idiv.
func (w *flow) unary(in *module.Instr, size uint8) {
	op := in.ModRM >> 3 & 7
	switch v := w.operand(in); {
	case op < 2:
		w.compare(in, 0x84, v, w.immediate(in), size)
	case op < 4:
		w.put(in, combine(mix(mix(tagOp, 0xf6), uint64(op)), v), size)
	default:
		a := combine(mix(mix(tagOp, 0xf6), uint64(op)), w.read(0), v)
		w.write(0, a)
		w.write(2, combine(mix(tagOp, 2), a))
	}
}

func (w *flow) increment(in *module.Instr, size uint8) {
	switch op := in.ModRM >> 3 & 7; op {
	case 0, 1:
		w.put(in, commute(mix(tagOp, 0), w.operand(in), number64(1-2*int64(op))), size)
	case 6:
		v := w.operand(in)
		w.rsp -= 8
		w.push(v)
	}
}

func (w *flow) twoByte(in *module.Instr) {
	op, r, size := in.Opcode, reg(in), operandSize(in)
	switch {
	case op >= 0x40 && op < 0x50: // cmov
		w.write(r, combine(mix(tagOp, uint64(op)|1<<8), w.read(r), w.operand(in)))
	case op >= 0x90 && op < 0xa0: // setcc
		w.assign(in, opaque(tagCond, uint64(op)), 1)
	case op == 0xa3: // bt
		w.compare(in, opBit, w.operand(in), w.read(r), size)
	case op == 0xba && in.ModRM>>3&7 == 4:
		w.compare(in, opBit, w.operand(in), w.immediate(in), size)
	case op == 0xaf:
		w.write(r, commute(mix(tagOp, 0xaf), w.read(r), w.operand(in)))
	case (op == 0xb6 || op == 0xb7) && (in.RIP || in.DispAddr != 0):
		v := w.operand(in)
		if v.isNum { // without its sign
			v = number64(v.num & (1<<(8*uint(in.MemSize)) - 1))
		}
		w.write(r, v)
	case op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf, op >= 0xbc && op <= 0xbd, op == 0xb8:
		w.write(r, w.extend(in))
	case op >= 0xc8 && op < 0xd0: // bswap
		n := op&7 | in.REX&1<<3
		w.write(n, combine(mix(tagOp, 0xc8), w.read(n)))
	case op == 0xb0 || op == 0xb1 || op == 0xc0 || op == 0xc1, op >= 0xa4 && op <= 0xad, op == 0xb3 || op == 0xbb || op == 0xba:
		w.put(in, combine(mix(tagOp, uint64(op)|1<<8), w.operand(in), w.read(r), w.immediate(in)), size)
	case op == 0x1e || op == 0x0d || op == 0x18: // hints
	default:
		w.vector(in)
	}
}

// vector is an instruction on vector registers.
func (w *flow) vector(in *module.Instr) {
	if !in.HasModRM {
		return
	}
	op, x := in.Opcode, 16+reg(in)&15
	rm := func() value {
		if in.ModRM>>6 == 3 {
			return *w.regs[16+(in.ModRM&7|in.REX&1<<3)]
		}
		return w.vectorLoad(in)
	}
	if in.Map == 1 {
		switch {
		case op == 0x6e: // movd, movq from a general register or memory
			v, size := w.operand(in), operandSize(in)
			v.lanes = []lane{{size, v}}
			w.set(x, v)
			return
		case op == 0x7e && !in.Rep: // movd, movq to one
			w.assign(in, *w.regs[x], operandSize(in))
			return
		case op == 0x11 || op == 0x29 || op == 0x7f || op == 0xd6 || op == 0x13 || op == 0x17 || op == 0xe7 || op == 0x2b:
			if in.ModRM>>6 == 3 {
				w.regs[16+(in.ModRM&7|in.REX&1<<3)] = w.regs[x]
			} else {
				w.store(in, w.place(in), *w.regs[x], in.MemSize)
			}
			return
		case op == 0x10 || op == 0x28 || op == 0x6f || op == 0x7e || op == 0x12 && in.ModRM>>6 != 3:
			w.set(x, rm())
			return
		case op == 0x62 || op == 0x14 || op == 0x6c || op == 0x16: // interleave, join the low halves
			w.set(x, join2(*w.regs[x], rm(), op))
			return
		case op == 0x2c || op == 0x2d || op == 0x50 || op == 0xd7 || op == 0xc5:
			w.write(reg(in), combine(mix(tagOp, uint64(op)|2<<8), rm()))
			return
		case op == 0x2e || op == 0x2f:
			w.compare(in, op, *w.regs[x], rm(), in.MemSize)
			return
		case op == 0x2a:
			w.set(x, combine(mix(tagOp, 0x2a), w.operand(in)))
			return
		case (op == 0x57 || op == 0xef) && in.ModRM>>6 == 3 && in.ModRM&7|in.REX&1<<3 == reg(in):
			w.set(x, number64(0))
			return
		}
	}
	if in.Map == 3 && op == 0x22 && len(w.regs[x].lanes) == 1 && in.Imm == 1 { // pinsrd, pinsrq
		v := w.operand(in)
		v.lanes = []lane{{operandSize(in), v}}
		w.set(x, join2(*w.regs[x], v, op))
		return
	}
	w.set(x, combine(mix(mix(tagOp, uint64(op)|uint64(in.Map)<<8), uint64(in.Imm)), *w.regs[x], rm()))
}

// vectorLoad loads a vector from memory.
func (w *flow) vectorLoad(in *module.Instr) value {
	p := w.place(in)
	if p.static != 0 {
		if v, ok := w.constant(p.static, in.MemSize); ok {
			return v
		}
	}
	v := w.load(in, p)
	if in.MemSize <= 8 {
		v.lanes = []lane{{in.MemSize, v}}
	}
	return v
}

// join2 puts the elements of one vector behind those of another.
func join2(a, b value, op byte) value {
	v := combine(mix(tagOp, uint64(op)|3<<8), a, b)
	if len(a.lanes) > 0 && len(a.lanes) == len(b.lanes) && len(a.lanes) <= 2 {
		v.lanes = append(append([]lane{}, a.lanes...), b.lanes...)
	}
	return v
}
