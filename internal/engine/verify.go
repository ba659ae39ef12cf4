package engine

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"slices"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// verifyChange compares what a transaction changed with what it must be.
func (t *txn) verifyChange() error {
	for _, e := range t.edits {
		b, err := t.bytesAt(e.at)
		if err != nil {
			return err
		}
		if b != e.new {
			return &Reason{Code: Differs, Module: e.module, Function: e.name, Detail: fmt.Sprintf("entry at %v: expected % x, found % x", e.at, e.new, b)}
		}
	}
	if t.finder != nil {
		if err := t.finder.intact(t.p); err != nil {
			return err
		}
	}
	return t.verifyUnits(t.rec.Pending, t.units)
}

// verifyUnits compares entries, overlays and headers with what they must be.
func (t *txn) verifyUnits(recs []UnitRecord, units []*unit) error {
	for i, u := range units {
		for _, s := range recs[i].Steers {
			b, err := t.bytesAt(s.At)
			if err != nil {
				return err
			}
			if b != s.New {
				return u.differs("entry of "+s.Name, s.At, s.New[:], b[:])
			}
		}
		if err := t.verifyOverlay(u, &recs[i], patch.ReadExec, patch.ReadOnly); err != nil { // other data is the program's own by now
			return err
		}
		if recs[i].Retired {
			if err := t.verifyRetired(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// verifyOverlay compares the pieces that have one of the protections, and the
// header, with what they must be.
func (t *txn) verifyOverlay(u *unit, r *UnitRecord, prots ...patch.Prot) error {
	for j := range u.pieces {
		pc := &u.patch.Pieces[j]
		if !slices.Contains(prots, pc.Prot) {
			continue
		}
		got := make([]byte, len(u.pieces[j]))
		a := u.at(uint64(pc.Addr))
		if err := t.p.Read(a, got); err != nil {
			return err
		}
		if off := u.patch.Header - pc.Addr; pc.Addr <= u.patch.Header && uint64(off) < uint64(len(got)) {
			clear(got[off:][:u.patch.HeaderLen]) // compared below
		}
		if !bytes.Equal(got, u.pieces[j]) {
			return u.differs("new code or constants", a, u.pieces[j], got)
		}
	}
	h, err := header(r, t.rec.Finder, int(u.patch.HeaderLen))
	if err != nil {
		return err
	}
	got := make([]byte, len(h))
	if err := t.p.Read(u.header(), got); err != nil {
		return err
	}
	if !bytes.Equal(got, h) {
		return u.differs("header", u.header(), h, got)
	}
	return nil
}

// differs says where bytes of the unit are not what they must be.
func (u *unit) differs(what string, at process.Addr, want, got []byte) error {
	k := firstDifference(want, got)
	n := min(k+8, len(want))
	place, base := u.mod.Name(), u.mod.Bias
	if u.room.Contains(at) {
		place, base = "overlay", u.room.Start
	}
	return &Reason{
		Code: Differs, Module: u.patch.Module,
		Detail: fmt.Sprintf("%s, %s+%#x: expected % x, found % x", what, place, uint64(at)+uint64(k)-uint64(base), want[k:n], got[k:n]),
	}
}

// Verify compares what is in a process with the record, the patches and the
// files of the modules: state Verified, Tampered with the place named, or
// Already when there is nothing in it.
func (e *Engine) Verify(pid int) Result { return e.verifyOf(process.ID{Pid: pid}) }

func (e *Engine) verifyOf(id process.ID) (res Result) {
	t, end, err := e.enter(id, true, &res)
	if err == nil {
		defer end()
		err = t.verify()
		if err == nil {
			res.State = Verified
			if len(t.rec.Units) == 0 {
				res.State = Already
			}
		}
	}
	if err != nil {
		res.fail(err)
	}
	return res
}

func (t *txn) verify() error {
	var units []*unit
	for i := range t.rec.Units {
		u, err := t.unitOf(&t.rec.Units[i])
		if err != nil {
			return err
		}
		units = append(units, u)
		t.res.Patches = append(slices.DeleteFunc(t.res.Patches, func(id patch.ID) bool { return id == u.patch.ID }), u.patch.ID)
		t.res.Functions += len(u.patch.Steers)
	}
	if err := t.verifyUnits(t.rec.Units, units); err != nil {
		return err
	}
	for _, u := range units {
		if err := t.verifyText(u); err != nil {
			return err
		}
	}
	if err := t.verifyFinder(units); err != nil {
		return err
	}
	t.res.Verified = true
	return nil
}

// verifyText compares all code of a patched module with its file.
func (t *txn) verifyText(u *unit) error {
	f, err := t.p.File(&u.mod)
	if err != nil {
		return err
	}
	for _, ph := range f.Progs {
		if ph.Type != elf.PT_LOAD || ph.Flags&elf.PF_X == 0 || ph.Filesz > 1<<30 {
			continue
		}
		// Whole pages are mapped: what else the file has in them, too.
		head := ph.Vaddr % page
		size := (head + ph.Filesz + page - 1) / page * page
		want, got := make([]byte, size), make([]byte, size)
		if _, err := f.ReadAt(want, int64(ph.Off-head)); err != nil && err != io.EOF { // zeros behind the end
			return fmt.Errorf("read %s: %w", u.mod.Path, err)
		}
		a := u.was(ph.Vaddr - head)
		if err := t.p.Read(a, got); err != nil {
			return err
		}
		u.asBaseline(a, got, want)
		if f := t.rec.Finder; f != nil && f.Active {
			(&UnitRecord{Steers: []SteerRecord{f.Steer}}).unsteer(a, got)
		}
		if bytes.Equal(want, got) {
			continue
		}
		k := firstDifference(want, got)
		n := min(k+8, len(want))
		return &Reason{
			Code: Differs, Module: u.patch.Module,
			Detail: fmt.Sprintf("code, %s+%#x: expected % x, found % x", u.mod.Name(), ph.Vaddr-head+uint64(k), want[k:n], got[k:n]),
		}
	}
	return nil
}
