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
	Ret          // ret, retf, iret
	CallInd      // call r/m
	JmpInd       // jmp r/m
	Nop          // every form of nop, also multi-byte ones and xchg ax,ax; not endbr64
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
	REX                              uint8 // REX byte, or for VEX/EVEX/REX2 the equivalent W R X B bits as 0x40|bits
	VEX                              bool  // VEX, EVEX or XOP encoded
	EVEX                             bool

	// Map is the opcode map: 0 one-byte, 1 0F, 2 0F38, 3 0F3A, others as VEX.mmmmm.
	Map    uint8
	Opcode uint8

	HasModRM   bool
	ModRM, SIB uint8
	HasSIB     bool

	// DispOff and DispLen place the displacement of a memory operand (1, 4, or
	// 8 for moffs), or of a branch (1 or 4). DispLen 0: none.
	DispOff, DispLen uint8
	// ImmOff and ImmLen place the immediate operand (all of them together: enter has 3 bytes).
	ImmOff, ImmLen uint8

	RIP bool // the memory operand is RIP-relative (mod 00, rm 101)
	// Disp is the displacement, sign-extended: of a branch or a memory
	// operand, from the instruction's end where it is relative. EVEX's
	// compressed disp8 is not scaled.
	Disp int64
	Imm  int64 // sign-extended from its width

	// MemSize is the number of bytes the memory operand reads or writes where
	// the opcode tells it; 0 where there is none or it is not known.
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
