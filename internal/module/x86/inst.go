// Package x86 decodes x86-64 instructions far enough to move code and to
// compare it: lengths, the places of displacement and immediate, RIP-relative
// operands, branches. It names no mnemonics. It is proved against objdump.
package x86

import "errors"

// Kind is what an instruction does to the flow of control, or that it does nothing.
type Kind uint8

// The kinds of instructions.
const (
	Other   Kind = iota
	Call         // call rel32
	Jmp          // jmp rel8, rel32
	Jcc          // jcc rel8, rel32, loop*, jrcxz, xbegin
	Ret          // ret, retf, iret, uiret
	CallInd      // call r/m
	JmpInd       // jmp r/m
	Nop          // every form of nop, also multi-byte ones and 66 90; not endbr64, pause, prefetches, lea
	Endbr        // endbr64
	Int3         // int3
	Trap         // ud0, ud1, ud2, hlt: does not fall through
	Syscall      // syscall, sysenter
)

// Inst is one decoded instruction. Offsets count bytes from its first byte.
type Inst struct {
	Kind Kind
	Len  uint8

	// Prefixes.
	Rep, Repne, Data16, Addr32, Lock bool
	Seg                              uint8 // 0, or the segment prefix byte in force (0x64 fs, 0x65 gs)
	REX                              uint8 // REX byte in force, or for VEX/EVEX/XOP the equivalent W R X B bits as 0x40|bits
	VEX                              bool  // VEX, EVEX or XOP encoded
	EVEX                             bool

	// Map is the opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A, 5 and 6 of EVEX, 8 to 10 of XOP.
	Map    uint8
	Opcode uint8

	HasModRM   bool
	ModRM, SIB uint8
	HasSIB     bool

	// DispOff and DispLen place the displacement of a memory operand (1, 4; a
	// moffs has 8, or 4 under 67), or of a branch (1, 4; xbegin under 66 has
	// 2). DispLen 0: none.
	DispOff, DispLen uint8
	// ImmOff and ImmLen place the immediate operand (all of them
	// together: enter has 3 bytes, extrq and insertq 2). The opcode of a 3DNow!
	// instruction and a register in the immediate count as immediates.
	ImmOff, ImmLen uint8

	// RIP says that the memory operand is RIP-relative (mod 00, rm 101); under
	// Addr32 the address is cut to 32 bits, which Target does not do.
	RIP bool
	// Disp is the displacement, sign-extended: of a branch or a memory
	// operand, from the instruction's end where it is relative. EVEX's
	// compressed disp8 is not scaled.
	Disp int64
	Imm  int64 // sign-extended from its width

	// MemSize is how many bytes the memory operand given by ModRM or a moffs
	// reads or writes: never fewer than the instruction touches, but
	// more under a mask, for a few conversions and for x87 state. 0 where there is no such
	// operand, it is not accessed (lea, prefetch), its size is not known
	// (xsave, gather) or depends on a register (bt).
	MemSize uint8
}

// ErrInvalid means that the bytes are not an instruction in 64-bit mode;
// ErrTruncated that they end within one.
var (
	ErrInvalid   = errors.New("x86: not an instruction")
	ErrTruncated = errors.New("x86: truncated instruction")
)

// Relative reports whether the instruction is a direct branch or has a
// RIP-relative operand, so that Target is meaningful.
func (i *Inst) Relative() bool {
	return i.RIP || i.Kind == Call || i.Kind == Jmp || i.Kind == Jcc
}

// Target is where a Relative instruction at address pc leads.
func (i *Inst) Target(pc uint64) uint64 { return pc + uint64(i.Len) + uint64(i.Disp) }
