package cfi

import (
	"errors"
	"fmt"
)

// Call-frame instructions (DWARF 5, 7.24; the GNU ones: LSB 5.0 Core, 10.5.2).
const (
	cfaAdvanceLoc           = 0x40 // delta in the low 6 bits
	cfaOffset               = 0x80 // register in the low 6 bits
	cfaRestore              = 0xc0 // register in the low 6 bits
	cfaNop                  = 0x00
	cfaSetLoc               = 0x01
	cfaAdvanceLoc1          = 0x02
	cfaAdvanceLoc2          = 0x03
	cfaAdvanceLoc4          = 0x04
	cfaOffsetExtended       = 0x05
	cfaRestoreExtended      = 0x06
	cfaUndefined            = 0x07
	cfaSameValue            = 0x08
	cfaRegister             = 0x09
	cfaRememberState        = 0x0a
	cfaRestoreState         = 0x0b
	cfaDefCFA               = 0x0c
	cfaDefCFARegister       = 0x0d
	cfaDefCFAOffset         = 0x0e
	cfaDefCFAExpression     = 0x0f
	cfaExpression           = 0x10
	cfaOffsetExtendedSF     = 0x11
	cfaDefCFASF             = 0x12
	cfaDefCFAOffsetSF       = 0x13
	cfaValOffset            = 0x14
	cfaValOffsetSF          = 0x15
	cfaValExpression        = 0x16
	cfaGNUArgsSize          = 0x2e
	cfaGNUNegOffsetExtended = 0x2f

	lowBits  = 0x3f
	highBits = 0xc0

	maxRemembered     = 64 // states remembered at once
	rememberedInPlace = 1  // of these without an allocation
)

var (
	errNoCFA      = errors.New("CFA is not defined")
	errStateStack = errors.New("restore_state without remember_state, or too many remembered")
)

// An instr is one decoded instruction. Operands mean what the opcode says;
// factored ones are multiplied already.
type instr struct {
	op   byte // the primary opcodes without their low bits
	reg  uint64
	reg2 uint64
	off  int64 // bytes; the value of set_loc
	expr []byte
}

// next decodes one instruction. The address of c.b[0] is base.
func (cie *CIE) next(c *cursor, base uint64) instr {
	b := c.u8()
	in := instr{op: b}
	if high := b & highBits; high != 0 {
		in.op, in.reg = high, uint64(b&lowBits)
	}
	switch in.op {
	case cfaNop, cfaRememberState, cfaRestoreState, cfaRestore:
	case cfaAdvanceLoc:
		in.off = cie.advance(c, in.reg)
	case cfaAdvanceLoc1:
		in.off = cie.advance(c, uint64(c.u8()))
	case cfaAdvanceLoc2:
		in.off = cie.advance(c, uint64(c.u16()))
	case cfaAdvanceLoc4:
		in.off = cie.advance(c, uint64(c.u32()))
	case cfaSetLoc:
		in.off = int64(c.pointer(cie.FDEEnc, base).Value)
	case cfaOffset:
		in.off = int64(c.uleb()) * cie.DataAlign
	case cfaOffsetExtended, cfaValOffset:
		in.reg, in.off = c.uleb(), int64(c.uleb())*cie.DataAlign
	case cfaOffsetExtendedSF, cfaValOffsetSF, cfaDefCFASF:
		in.reg, in.off = c.uleb(), c.sleb()*cie.DataAlign
	case cfaGNUNegOffsetExtended:
		in.reg, in.off = c.uleb(), -int64(c.uleb())*cie.DataAlign
	case cfaRestoreExtended, cfaUndefined, cfaSameValue, cfaDefCFARegister:
		in.reg = c.uleb()
	case cfaRegister:
		in.reg, in.reg2 = c.uleb(), c.uleb()
	case cfaDefCFA:
		in.reg, in.off = c.uleb(), int64(c.uleb())
	case cfaDefCFAOffset, cfaGNUArgsSize:
		in.off = int64(c.uleb())
	case cfaDefCFAOffsetSF:
		in.off = c.sleb() * cie.DataAlign
	case cfaDefCFAExpression:
		in.expr = c.bytes(c.uleb())
	case cfaExpression, cfaValExpression:
		in.reg = c.uleb()
		in.expr = c.bytes(c.uleb())
	default:
		c.fail(fmt.Errorf("call-frame instruction %#x", b))
	}
	return in
}

func (cie *CIE) advance(c *cursor, delta uint64) int64 {
	if cie.CodeAlign > 1<<16 { // with at most 32 bits of delta, no overflow below it
		c.fail(fmt.Errorf("code alignment %d", cie.CodeAlign))
	}
	return int64(delta * cie.CodeAlign)
}

// A machine executes call-frame instructions.
type machine struct {
	row, initial Row // initial: after the CIE's instructions
	inFDE        bool
	cie          *CIE
	loc, pc      uint64
	depth        int // states remembered
	saved        [rememberedInPlace]Row
	more         []Row // those that saved has no place for
}

func (m *machine) remember() error {
	switch {
	case m.depth == maxRemembered:
		return errStateStack
	case m.depth < len(m.saved):
		m.saved[m.depth] = m.row
	default:
		m.more = append(m.more[:m.depth-len(m.saved)], m.row)
	}
	m.depth++
	return nil
}

func (m *machine) restore() error {
	if m.depth == 0 {
		return errStateStack
	}
	m.depth--
	if i := m.depth - len(m.saved); i >= 0 {
		m.row = m.more[i]
	} else {
		m.row = m.saved[m.depth]
	}
	return nil
}

// Row executes the instructions of the CIE and of the FDE and returns the rules
// in force at pc. For a return address give the address before it: the call
// may be a function's last instruction, and the rules may change after it; not
// where the frame called is a signal frame. It fails outside the FDE's range
// and where instructions are malformed.
func (f *FDE) Row(pc uint64) (Row, error) {
	if pc < f.Start || pc >= f.End {
		return Row{}, fmt.Errorf("find row at %#x: outside %#x..%#x", pc, f.Start, f.End)
	}
	m := machine{cie: f.CIE, loc: f.Start, pc: pc}
	if off, err := m.run(f.CIE.Instrs, 0); err != nil {
		return Row{}, fmt.Errorf("find row at %#x: instruction %#x of the CIE at offset %#x: %w", pc, off, f.CIE.Off, err)
	}
	m.initial, m.inFDE = m.row, true
	if off, err := m.run(f.Instrs, f.InstrAddr); err != nil {
		return Row{}, fmt.Errorf("find row at %#x: instruction %#x of the FDE at offset %#x: %w", pc, off, f.Off, err)
	}
	return m.row, nil
}

// run executes code, which lies at base, until it goes beyond m.pc. It
// returns the offset of the instruction that failed.
func (m *machine) run(code []byte, base uint64) (int, error) {
	c := cursor{b: code}
	for c.off < len(code) {
		at := c.off
		in := m.cie.next(&c, base)
		if c.err != nil {
			return at, c.err
		}
		switch in.op {
		case cfaAdvanceLoc, cfaAdvanceLoc1, cfaAdvanceLoc2, cfaAdvanceLoc4, cfaSetLoc:
			loc := uint64(in.off)
			if in.op != cfaSetLoc {
				loc += m.loc
			}
			if !m.inFDE || loc < m.loc {
				return at, errors.New("location goes backward or changes in a CIE")
			}
			if loc > m.pc {
				return 0, nil
			}
			m.loc = loc
		case cfaRememberState:
			if err := m.remember(); err != nil {
				return at, err
			}
		case cfaRestoreState:
			if err := m.restore(); err != nil {
				return at, err
			}
		case cfaDefCFA, cfaDefCFASF, cfaDefCFARegister, cfaDefCFAOffset, cfaDefCFAOffsetSF, cfaDefCFAExpression:
			if err := m.defCFA(&in); err != nil {
				return at, err
			}
		default:
			if err := m.rule(&in); err != nil {
				return at, err
			}
		}
	}
	return 0, nil
}

// defCFA executes the instructions that say what the CFA is. An expression does
// not forget the offset before it: a later def_cfa_register takes that up again,
// as libgcc and gdb have it, and the assembly of libgcrypt relies on it.
func (m *machine) defCFA(in *instr) error {
	cfa := &m.row.CFA
	switch in.op {
	case cfaDefCFAExpression:
		*cfa = Rule{Kind: ValExpr, Off: cfa.Off, Expr: in.expr}
		return nil
	case cfaDefCFAOffset, cfaDefCFAOffsetSF:
		if cfa.Kind == Unset {
			return errNoCFA
		}
		cfa.Off = in.off
		return nil
	case cfaDefCFARegister:
		if cfa.Kind == Unset {
			return errNoCFA
		}
		in.off = cfa.Off
	}
	if in.reg > RA {
		return fmt.Errorf("CFA in register %d", in.reg)
	}
	*cfa = Rule{Kind: Register, Reg: uint8(in.reg), Off: in.off}
	return nil
}

// rule executes the instructions that change one register's rule. Those for
// registers without a column in Row (vector registers and the like) change nothing.
func (m *machine) rule(in *instr) error {
	var r Rule
	switch in.op {
	case cfaNop, cfaGNUArgsSize:
		return nil
	case cfaOffset, cfaOffsetExtended, cfaOffsetExtendedSF, cfaGNUNegOffsetExtended:
		r = Rule{Kind: Offset, Off: in.off}
	case cfaValOffset, cfaValOffsetSF:
		r = Rule{Kind: ValOffset, Off: in.off}
	case cfaUndefined:
		r.Kind = Undefined
	case cfaSameValue:
		r.Kind = Same
	case cfaRegister:
		if in.reg2 > 255 {
			return fmt.Errorf("register %d", in.reg2)
		}
		r = Rule{Kind: Register, Reg: uint8(in.reg2)}
	case cfaExpression:
		r = Rule{Kind: Expr, Expr: in.expr}
	case cfaValExpression:
		r = Rule{Kind: ValExpr, Expr: in.expr}
	case cfaRestore, cfaRestoreExtended:
		if !m.inFDE {
			return errors.New("restore in a CIE")
		}
		if in.reg <= RA {
			r = m.initial.Regs[in.reg]
		}
	}
	if in.reg <= RA {
		m.row.Regs[in.reg] = r
	}
	return nil
}

// EntryIsCall reports whether the rules at Start are those of a function just
// called: the CFA is rsp+8, the return address is at CFA-8, and nothing else is
// saved. The cold part of a function that has pushed something is not so.
func (f *FDE) EntryIsCall() (bool, error) {
	r, err := f.Row(f.Start)
	if err != nil {
		return false, err
	}
	if r.CFA.Kind != Register || r.CFA.Reg != RSP || r.CFA.Off != 8 {
		return false, nil
	}
	for i := range RA {
		if k := r.Regs[i].Kind; k != Unset && k != Same {
			return false, nil
		}
	}
	return r.Regs[RA].Kind == Offset && r.Regs[RA].Off == -8, nil
}
