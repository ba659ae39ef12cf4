package cfi

import (
	"errors"
	"fmt"
	"math/bits"
)

// DWARF expression operations (DWARF 5, 7.7.1).
const (
	opDeref      = 0x06
	opConst1u    = 0x08 // 1u 1s 2u 2s 4u 4s 8u 8s
	opConst8s    = 0x0f
	opConstu     = 0x10
	opConsts     = 0x11
	opDup        = 0x12
	opDrop       = 0x13
	opOver       = 0x14
	opPick       = 0x15
	opSwap       = 0x16
	opRot        = 0x17
	opAbs        = 0x19
	opAnd        = 0x1a
	opDiv        = 0x1b
	opMinus      = 0x1c
	opMod        = 0x1d
	opMul        = 0x1e
	opNeg        = 0x1f
	opNot        = 0x20
	opOr         = 0x21
	opPlus       = 0x22
	opPlusUconst = 0x23
	opShl        = 0x24
	opShr        = 0x25
	opShra       = 0x26
	opXor        = 0x27
	opBra        = 0x28
	opEq         = 0x29
	opGe         = 0x2a
	opGt         = 0x2b
	opLe         = 0x2c
	opLt         = 0x2d
	opNe         = 0x2e
	opSkip       = 0x2f
	opLit0       = 0x30
	opLit31      = 0x4f
	opBreg0      = 0x70
	opBreg31     = 0x8f
	opBregx      = 0x92
	opDerefSize  = 0x94
	opNop        = 0x96

	maxStack = 64   // values
	maxSteps = 4096 // operations executed
)

var (
	errUnknown = errors.New("register not known")
	errStack   = errors.New("expression stack overflow or underflow")
	errSteps   = errors.New("expression does not end")
	errDivide  = errors.New("division by zero")
)

// An evaluator runs one DWARF expression. Operations that name an absolute
// address, an object or a location have no meaning here and are refused.
type evaluator struct {
	c     cursor
	regs  *Regs
	read  func(addr uint64) (uint64, error)
	stack [maxStack]uint64
	n     int
}

// eval runs expr on a stack that holds initial and returns the top of the stack.
func eval(expr []byte, regs *Regs, read func(uint64) (uint64, error), initial ...uint64) (uint64, error) {
	e := evaluator{c: cursor{b: expr}, regs: regs, read: read}
	e.n = copy(e.stack[:], initial)
	for steps := 0; e.c.err == nil && e.c.off < len(expr); steps++ {
		if steps == maxSteps {
			return 0, errSteps
		}
		at := e.c.off
		e.step(e.c.u8())
		if e.c.err != nil {
			return 0, fmt.Errorf("evaluate expression: operation at %#x: %w", at, e.c.err)
		}
	}
	v := e.at(0)
	return v, e.c.err
}

// at returns the value depth places below the top.
func (e *evaluator) at(depth int) uint64 {
	if depth >= e.n {
		e.c.fail(errStack)
		return 0
	}
	return e.stack[e.n-1-depth]
}

func (e *evaluator) push(v uint64) {
	if e.n == maxStack {
		e.c.fail(errStack)
		return
	}
	e.stack[e.n] = v
	e.n++
}

func (e *evaluator) pop() uint64 {
	v := e.at(0)
	if e.c.err == nil {
		e.n--
	}
	return v
}

func (e *evaluator) step(op byte) {
	switch {
	case op >= opLit0 && op <= opLit31:
		e.push(uint64(op - opLit0))
	case op >= opBreg0 && op <= opBreg31:
		e.breg(uint64(op - opBreg0))
	case op >= opConst1u && op <= opConsts:
		e.push(e.constant(op))
	case op == opDup, op == opOver, op == opPick:
		depth := 0
		if op == opOver {
			depth = 1
		} else if op == opPick {
			depth = int(e.c.u8())
		}
		e.push(e.at(depth))
	case op == opDrop:
		e.pop()
	case op == opSwap:
		a, b := e.pop(), e.pop()
		e.push(a)
		e.push(b)
	case op == opRot: // the top goes third
		a, b, c := e.pop(), e.pop(), e.pop()
		e.push(a)
		e.push(c)
		e.push(b)
	case op == opBregx:
		e.breg(e.c.uleb())
	case op == opDeref:
		e.deref(8)
	case op == opDerefSize:
		e.deref(e.c.u8())
	case op == opSkip, op == opBra:
		delta := int(int16(e.c.u16()))
		if op == opBra && e.pop() == 0 {
			return
		}
		if to := e.c.off + delta; to >= 0 && to <= len(e.c.b) {
			e.c.off = to
			return
		}
		e.c.fail(errors.New("branch out of the expression"))
	case op == opAbs, op == opNeg, op == opNot, op == opPlusUconst:
		e.unary(op)
	case op >= opAnd && op <= opNe:
		b, a := e.pop(), e.pop()
		e.push(e.binary(op, a, b))
	case op == opNop:
	default:
		e.c.fail(fmt.Errorf("unsupported operation %#x", op))
	}
}

func (e *evaluator) constant(op byte) uint64 {
	switch op {
	case opConst1u:
		return uint64(e.c.u8())
	case opConst1u + 1:
		return uint64(int8(e.c.u8()))
	case opConst1u + 2:
		return uint64(e.c.u16())
	case opConst1u + 3:
		return uint64(int16(e.c.u16()))
	case opConst1u + 4:
		return uint64(e.c.u32())
	case opConst1u + 5:
		return uint64(int32(e.c.u32()))
	case opConstu:
		return e.c.uleb()
	case opConsts:
		return uint64(e.c.sleb())
	}
	return e.c.u64()
}

func (e *evaluator) breg(reg uint64) {
	off := e.c.sleb()
	v, ok := e.regs.get(reg)
	if !ok {
		e.c.fail(fmt.Errorf("register %d: %w", reg, errUnknown))
	}
	e.push(v + uint64(off))
}

func (e *evaluator) deref(size byte) {
	addr := e.pop()
	if size == 0 || size > 8 || bits.OnesCount8(size) != 1 {
		e.c.fail(fmt.Errorf("read of %d bytes", size))
	}
	if e.c.err != nil {
		return
	}
	v, err := e.read(addr)
	if err != nil {
		e.c.fail(fmt.Errorf("read %#x: %w", addr, err))
	}
	e.push(v << (64 - 8*size) >> (64 - 8*size))
}

func (e *evaluator) unary(op byte) {
	v := e.pop()
	switch op {
	case opAbs:
		if int64(v) < 0 {
			v = -v
		}
	case opNeg:
		v = -v
	case opNot:
		v = ^v
	case opPlusUconst:
		v += e.c.uleb()
	}
	e.push(v)
}

func (e *evaluator) binary(op byte, a, b uint64) uint64 {
	is := func(c bool) uint64 {
		if c {
			return 1
		}
		return 0
	}
	switch op {
	case opAnd:
		return a & b
	case opDiv, opMod:
		if b == 0 {
			e.c.fail(errDivide)
			return 0
		}
		if op == opMod { // unsigned, div is signed (DWARF 5, 2.5.1.4; libgcc)
			return a % b
		}
		return uint64(int64(a) / int64(b))
	case opMinus:
		return a - b
	case opMul:
		return a * b
	case opOr:
		return a | b
	case opPlus:
		return a + b
	case opShl:
		return a << b
	case opShr:
		return a >> b
	case opShra:
		return uint64(int64(a) >> b)
	case opXor:
		return a ^ b
	case opEq:
		return is(a == b)
	case opNe:
		return is(a != b)
	case opGe:
		return is(int64(a) >= int64(b))
	case opGt:
		return is(int64(a) > int64(b))
	case opLe:
		return is(int64(a) <= int64(b))
	}
	return is(int64(a) < int64(b)) // opLt
}
