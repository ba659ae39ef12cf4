package cfi

import (
	"errors"
	"fmt"
)

// ErrOutermost means that the frame has no caller: its return address is undefined.
var ErrOutermost = errors.New("outermost frame")

// calleeSaved are the registers a function preserves (psABI x86-64, figure
// 3.4): rbx, rbp, r12 to r15. rsp is the CFA.
const calleeSaved = 1<<3 | 1<<RBP | 1<<12 | 1<<13 | 1<<14 | 1<<15

// get returns the value of register i, DWARF number, and whether it is known.
func (r *Regs) get(i uint64) (uint64, bool) {
	if i > RA || r.Known>>i&1 == 0 {
		return 0, false
	}
	return r.R[i], true
}

// Set gives register i, DWARF number 0 to RA, a known value.
func (r *Regs) Set(i int, v uint64) {
	r.R[i] = v
	r.Known |= 1 << i
}

// Step returns the registers of the caller of the frame that regs belongs to,
// r being the row at its pc. All addresses are those of the process, as is the
// pc in regs, which expressions use; read returns the 8 bytes at addr.
//
// Registers whose value cannot be known (caller-saved ones without a rule, or
// ones that depend on an unknown one) are not in Known; the CFA and the return
// address always are. The caller's rsp is the CFA unless a rule says
// otherwise. ErrOutermost says that there is no caller; any other error that
// the way ends here without proof that it is the outermost frame.
func (r *Row) Step(regs *Regs, read func(addr uint64) (uint64, error)) (Regs, error) {
	switch r.Regs[RA].Kind {
	case Undefined:
		return Regs{}, ErrOutermost
	case Unset, Same:
		return Regs{}, errors.New("step to caller: no rule for the return address")
	}
	cfa, err := r.cfa(regs, read)
	if err != nil {
		return Regs{}, fmt.Errorf("step to caller: find CFA: %w", err)
	}
	var out Regs
	out.Set(RSP, cfa)
	for i := range r.Regs {
		rule := &r.Regs[i]
		if rule.Kind == Unset {
			if v, ok := regs.get(uint64(i)); ok && calleeSaved>>i&1 != 0 {
				out.Set(i, v)
			}
			continue
		}
		v, err := rule.value(i, cfa, regs, read)
		switch {
		case err == nil:
			out.Set(i, v)
		case errors.Is(err, errUnknown) && i != RA && i != RSP:
		default:
			return Regs{}, fmt.Errorf("step to caller: find register %d: %w", i, err)
		}
	}
	return out, nil
}

func (r *Row) cfa(regs *Regs, read func(uint64) (uint64, error)) (uint64, error) {
	switch r.CFA.Kind {
	case ValExpr:
		return eval(r.CFA.Expr, regs, read)
	case Register:
		if v, ok := regs.get(uint64(r.CFA.Reg)); ok {
			return v + uint64(r.CFA.Off), nil
		}
		return 0, fmt.Errorf("register %d: %w", r.CFA.Reg, errUnknown)
	}
	return 0, errors.New("no rule")
}

// value is what register i of the caller holds by the rule, which is not Unset.
func (rule *Rule) value(i int, cfa uint64, regs *Regs, read func(uint64) (uint64, error)) (uint64, error) {
	load := func(addr uint64) (uint64, error) {
		v, err := read(addr)
		if err != nil {
			return 0, fmt.Errorf("read %#x: %w", addr, err)
		}
		return v, nil
	}
	from := uint64(i)
	switch rule.Kind {
	case Offset:
		return load(cfa + uint64(rule.Off))
	case ValOffset:
		return cfa + uint64(rule.Off), nil
	case Expr:
		addr, err := eval(rule.Expr, regs, read, cfa)
		if err != nil {
			return 0, err
		}
		return load(addr)
	case ValExpr:
		return eval(rule.Expr, regs, read, cfa)
	case Register:
		from = uint64(rule.Reg)
	}
	if v, ok := regs.get(from); ok && rule.Kind != Undefined {
		return v, nil
	}
	return 0, fmt.Errorf("register %d: %w", from, errUnknown)
}
