// Package cfi reads DWARF call-frame information (.eh_frame): which function
// ranges a build has, and how to find the caller's registers from any
// instruction in them. It is pure: bytes in, values out, no panic on any input.
package cfi

// RA is the DWARF number of the return-address column on x86-64; 0 to 15 are
// rax rdx rcx rbx rsi rdi rbp rsp r8..r15 (System V psABI x86-64, figure 3.36).
const (
	RBP = 6
	RSP = 7
	RA  = 16
)

// Pointer is a pointer field of the tables, decoded.
type Pointer struct {
	Value    uint64 // image address; of the slot that holds it where Indirect
	Indirect bool   // DW_EH_PE_indirect
	Enc      byte   // DW_EH_PE_*; 0xff: omitted
	Off      int    // of the field in the section, bytes
	Size     int    // of the field, bytes
}

// CIE is a common information entry.
type CIE struct {
	Off, Len    int // in the section, bytes, with the length field
	Version     byte
	Augment     string
	CodeAlign   uint64
	DataAlign   int64
	Return      uint64  // return-address column
	Personality Pointer // Enc 0xff: none
	FDEEnc      byte
	LSDAEnc     byte // 0xff: none
	Signal      bool // 'S': a signal frame; the caller's pc is exact, not a return address
	Instrs      []byte
}

// FDE is a frame description entry: one range of code.
type FDE struct {
	Off, Len   int    // in the section, bytes, with the length field
	Start, End uint64 // image addresses
	StartField Pointer
	LSDA       Pointer // Enc 0xff or Value 0: none
	CIE        *CIE
	Instrs     []byte
	InstrAddr  uint64 // image address of Instrs[0]
}

// Table is a parsed section.
type Table struct {
	Addr uint64 // image address of Data[0]
	Data []byte
	FDEs []FDE // sorted by Start
}

// RuleKind says how a register of the caller is found (DWARF 5, 6.4.1).
type RuleKind uint8

// The kinds of rules.
const (
	Unset     RuleKind = iota // no rule: callee-saved registers keep their value, others are unknown
	Undefined                 // of RA: the outermost frame
	Same
	Offset    // stored at CFA+Off
	ValOffset // is CFA+Off
	Register  // in Reg
	Expr      // stored at the expression's result
	ValExpr   // is the expression's result
)

// Rule is one column of a row; of the CFA: Register (Reg+Off) or ValExpr
// (Off then counts for nothing but a later def_cfa_register).
type Rule struct {
	Kind RuleKind
	Reg  uint8
	Off  int64
	Expr []byte
}

// Row is the rules in force at one address.
type Row struct {
	CFA  Rule
	Regs [17]Rule
}

// Regs are register values by DWARF number; bit i of Known says that R[i] is known.
// R[RA] is the instruction pointer.
type Regs struct {
	R     [17]uint64
	Known uint32
}
