package engine

import (
	"errors"
	"fmt"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/process"
)

// Retiring overwrites the code that a patch replaced with int3, so that it is
// gone from memory: no jump into the middle of it, however it came about, runs
// what was mended. It is done only when no thread can be in it, and undone from
// the baseline's file.

const int3 = 0xcc

// bodies are the bytes that are not needed any more once a unit's entries are
// steered: the replaced functions without the jumps, and endbr64 before those.
func (u *unit) bodies() []process.Range {
	const endbr, jump = 4, 5 // bytes
	var out []process.Range
	for _, o := range u.patch.Old {
		if !o.Dead {
			continue
		}
		for _, r := range o.Ranges {
			rest := process.Range{Start: u.was(uint64(r.Start)), End: u.was(uint64(r.End))}
			steers := slices.DeleteFunc(u.steers(), func(s SteerRecord) bool { return !rest.Contains(s.At) })
			slices.SortFunc(steers, func(a, b SteerRecord) int { return int(int64(a.At - b.At)) })
			for _, s := range steers {
				if a := s.At - endbr; a > rest.Start && a < rest.End {
					out = append(out, process.Range{Start: rest.Start, End: a})
				}
				rest.Start = s.At + jump
			}
			if rest.Start < rest.End {
				out = append(out, rest)
			}
		}
	}
	return out
}

// noteUnlike says what the options ask for and patches lack that are in
// force already.
func (t *txn) noteUnlike() {
	const how = "the patch is in force already: roll back and apply it again with this option"
	for i := range t.rec.Units {
		r := &t.rec.Units[i]
		if t.opts.Level == Strict && r.Level == Entry {
			t.res.Reasons = append(t.res.Reasons, Reason{Code: NotStrict, Module: r.Path, Detail: how})
		}
		if t.opts.Retire && !r.Retired {
			t.res.Reasons = append(t.res.Reasons, Reason{Code: NotRetired, Module: r.Path, Detail: how})
		}
		if t.opts.Seal && !r.Sealed {
			t.res.Reasons = append(t.res.Reasons, Reason{Code: NotSealed, Module: r.Path, Detail: how})
		}
	}
}

// harden does what the options ask for beyond patching. A kernel that cannot
// seal is no failure: the result says so.
func (t *txn) harden() error {
	for _, u := range t.units {
		i := slices.IndexFunc(t.rec.Units, func(r UnitRecord) bool { return r.Bias == u.mod.Bias })
		r := &t.rec.Units[i]
		if t.opts.Retire && t.res.Level == Strict && t.unwound {
			r.Retired = true
			if err := errors.Join(t.store.Save(t.rec), t.putHeader(u, r), t.retire(u)); err != nil {
				return err
			}
			t.res.Retired = true
		} else if t.opts.Retire {
			why := "the level strict was not reached: old code may still run"
			if t.res.Level == Strict {
				why = "not every stack could be unwound to its end"
			}
			t.res.Reasons = append(t.res.Reasons, Reason{Code: NotRetired, Module: u.patch.Module, Detail: why})
		}
		if t.opts.Seal {
			_, err := t.borrow([]remoteCall{{what: "seal", nr: sysMseal, r: u.room, args: []uint64{uint64(u.room.Start), uint64(u.room.End - u.room.Start), 0}}})
			if reason := (*Reason)(nil); errors.As(err, &reason) && reason.Code == Kernel {
				t.res.Reasons = append(t.res.Reasons, Reason{Code: NotSealed, Module: u.patch.Module, Detail: reason.Detail})
				continue
			}
			if err != nil {
				return err
			}
			r.Sealed, t.res.Sealed = true, true
			if err := errors.Join(t.store.Save(t.rec), t.putHeader(u, r)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sysMseal is the number of mseal(2), Linux 6.10.
const sysMseal = 462

func (t *txn) retire(u *unit) error {
	for _, r := range u.bodies() {
		b := make([]byte, r.End-r.Start)
		for i := range b {
			b[i] = int3
		}
		if err := t.put(r.Start, b); err != nil {
			return err
		}
	}
	return nil
}

// retireAgain retires those that the record says are retired: a run was cut
// off, or a transaction was undone. Nothing can have come into that code since,
// as its entries are steered.
func (t *txn) retireAgain(units []*unit) error {
	for _, u := range units {
		if u.rec.Retired {
			if err := errors.Join(t.putHeader(u, &u.rec), t.retire(u)); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreBodies brings back, from the baseline's file, the code that was
// retired by what leaves. No thread can be in it.
func (t *txn) restoreBodies() error {
	for _, u := range t.going {
		if !u.rec.Retired {
			continue
		}
		f, err := t.p.File(&u.mod)
		if err != nil {
			return err
		}
		if err := t.restoreFrom(f, u); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) restoreFrom(f *process.File, u *unit) error {
	if err := trueFile(f, u.patch); err != nil {
		return err
	}
	for _, r := range u.bodies() {
		b := make([]byte, r.End-r.Start)
		if err := f.ReadAddr(module.Addr(r.Start-u.mod.Bias), b); err != nil {
			return err
		}
		if err := t.put(r.Start, b); err != nil {
			return err
		}
	}
	return nil
}

// verifyRetired makes sure that retired code is int3.
func (t *txn) verifyRetired(u *unit) error {
	for _, r := range u.bodies() {
		b := make([]byte, r.End-r.Start)
		if err := t.p.Read(r.Start, b); err != nil {
			return err
		}
		for i := range b {
			if b[i] != int3 {
				return &Reason{
					Code: Differs, Module: u.patch.Module,
					Detail: fmt.Sprintf("retired code, %s+%#x: expected cc, found %02x", u.mod.Name(), uint64(r.Start-u.mod.Bias)+uint64(i), b[i]),
				}
			}
		}
	}
	return nil
}

// asBaseline puts the baseline's bytes into b, which was read at a, for what
// the unit changed there; file is what the baseline's file holds.
func (u *unit) asBaseline(a process.Addr, b, file []byte) {
	u.rec.unsteer(a, b)
	if !u.rec.Retired {
		return
	}
	for _, r := range u.bodies() {
		for at := max(r.Start, a); at < r.End && at-a < process.Addr(len(b)); at++ {
			if b[at-a] == int3 {
				b[at-a] = file[at-a]
			}
		}
	}
}
