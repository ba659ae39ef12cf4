package engine

import (
	"errors"
	"fmt"
	"slices"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// load reads the record of the process, or makes one from the headers that a
// child of fork inherited.
func (t *txn) load() error {
	boot, err := process.BootID()
	if err != nil {
		return err
	}
	rec, err := t.recorded()
	if err != nil {
		return err
	}
	if rec != nil {
		t.rec = rec
		changed, err := t.meet()
		if err == nil && changed {
			err = t.keep()
		}
		return errors.Join(err, t.dropUnloaded())
	}
	t.rec = &Record{ID: t.p.ID, Sharing: t.p.Sharing(), Boot: boot, Phase: Done}
	if t.rec.Program, err = t.p.Exe(); err != nil {
		return err
	}
	return t.inherit()
}

// stillMapped reports whether what a record says is there; after execve the
// process has its pid and start time still, but nothing of ours.
func (t *txn) stillMapped(rec *Record) bool {
	for _, u := range slices.Concat(rec.Units, rec.Pending, rec.Going, rec.Stays) {
		if t.moduleOf(&u) != nil || t.oursAt(process.Range{Start: u.Start, End: u.End}) {
			return true
		}
	}
	return len(rec.Units)+len(rec.Pending)+len(rec.Going)+len(rec.Stays) == 0 && !t.lostFinder(rec)
}

// lostFinder reports whether the finder of a record is not there any more.
func (t *txn) lostFinder(rec *Record) bool {
	f := rec.Finder
	return f != nil && f.Mapped && !t.oursAt(process.Range{Start: f.Page, End: f.Page + page})
}

// moduleOf is the module mapped where the record says, nil when there is none.
// Its file may have another name by now.
func (t *txn) moduleOf(r *UnitRecord) *process.Module {
	if i := slices.IndexFunc(t.mods, func(m process.Module) bool { return m.Bias == r.Bias }); i >= 0 {
		return &t.mods[i]
	}
	return nil
}

// dropUnloaded takes those patches from the record whose module was unloaded
// by the program, or unloaded and loaded again at the same place, as it is also
// by execve of a program that is not position-independent. Their overlays stay
// mapped.
func (t *txn) dropUnloaded() error {
	if t.lostFinder(t.rec) {
		t.rec.Finder = nil
	}
	all := func() int { return len(t.rec.Units) + len(t.rec.Pending) + len(t.rec.Going) + len(t.rec.Stays) }
	before := all()
	var failed error
	unloaded := func(pending bool) func(UnitRecord) bool {
		return func(r UnitRecord) bool {
			gone, err := t.unloaded(&r, pending)
			if err == nil && gone {
				err = t.abandon(&r)
			}
			failed = errors.Join(failed, err)
			return gone && err == nil
		}
	}
	t.rec.Units = slices.DeleteFunc(t.rec.Units, unloaded(false))
	t.rec.Pending = slices.DeleteFunc(t.rec.Pending, unloaded(true))
	t.rec.Going = slices.DeleteFunc(t.rec.Going, unloaded(true))
	t.rec.Stays = slices.DeleteFunc(t.rec.Stays, func(r UnitRecord) bool {
		gone := (r.Draining || t.moduleOf(&r) == nil) && unloaded(true)(r)
		if gone && !r.Draining {
			t.rec.Left -= int64(r.End - r.Start) // it is counted once
		}
		return gone
	})
	if failed != nil || all() == before {
		return failed
	}
	return t.keep()
}

// unloaded reports whether a unit's module is not the one that was patched. One
// that is mapped anew has the baseline's bytes at all entries; so has one whose
// transaction is pending.
func (t *txn) unloaded(r *UnitRecord, pending bool) (bool, error) {
	m := t.moduleOf(r)
	if m == nil {
		return true, nil
	}
	p, err := t.store.Patch(r.Patch)
	if err != nil {
		return false, err
	}
	if id, err := t.p.Identity(m); err != nil || id != p.Baseline {
		return err == nil, err
	}
	for _, s := range r.Steers {
		if b, err := t.bytesAt(s.At); err != nil || b != s.Old {
			return false, err
		}
	}
	return !pending && len(r.Steers) > 0, nil
}

// abandon makes an overlay whose module is gone look like nothing of ours.
func (t *txn) abandon(r *UnitRecord) error {
	if f := t.rec.Finder; f != nil && r.Finder != 0 {
		if err := f.remove(t.put, r.Finder); err != nil {
			return err
		}
	}
	room := process.Range{Start: r.Start, End: r.End}
	if !t.oursAt(room) {
		return nil
	}
	p, err := t.store.Patch(r.Patch)
	if err != nil {
		return err
	}
	t.rec.Left += int64(r.End - r.Start)
	u := unit{patch: p, over: r.Overlay}
	return t.put(u.header(), make([]byte, p.HeaderLen))
}

// unitOf makes a unit of a record, with its pieces as they must be in memory.
func (t *txn) unitOf(r *UnitRecord) (*unit, error) {
	p, err := t.store.Patch(r.Patch)
	if err != nil {
		return nil, err
	}
	u := &unit{patch: p, over: r.Overlay, room: process.Range{Start: r.Start, End: r.End}, imports: r.Imports, held: r.Held, rec: *r}
	if m := t.moduleOf(r); m != nil {
		u.mod = *m
	} else {
		return nil, &Reason{Code: NoModule, Module: p.Module, Detail: "it is no longer mapped"}
	}
	return u, u.relocate()
}

// unitsOf are the units of records, as far as they can be made.
func (t *txn) unitsOf(recs []UnitRecord) []*unit {
	var out []*unit
	for i := range recs {
		if u, err := t.unitOf(&recs[i]); err == nil {
			out = append(out, u)
		}
	}
	return out
}

// inherit looks for headers in the anonymous read-only pages of the process.
// They are hints: only what is then found byte for byte as the stored patch
// says is believed.
func (t *txn) inherit() error {
	seen := 0
	for _, m := range t.maps {
		if !mayEndInHeader(&m) {
			continue
		}
		h, ok := readHeader(t.p, m.End)
		if !ok {
			continue
		}
		if seen++; seen > maxHeaders {
			return fmt.Errorf("%d headers: %w", seen, process.ErrTooLarge)
		}
		r := h.UnitRecord
		if t.moduleOf(&r) == nil {
			continue // the program unloaded it
		}
		u, err := t.unitOf(&r)
		if err != nil && r.out {
			continue // what it leaves nobody needs
		}
		if err == nil && u.header()+process.Addr(u.patch.HeaderLen) != m.End {
			err = &Reason{Code: Differs, Module: u.patch.Module, Detail: "its header lies in another place than it says"}
		}
		if err != nil {
			return fmt.Errorf("read inherited patch %s: %w", r.Patch.Short(), err)
		}
		r.Path = u.mod.Path
		r.Steers, r.Draining = u.steers(), true     // nobody looked at the child
		inForce := !r.out && t.countSteered(&r) > 0 // else forked before the entries were changed, or after they were restored
		if f := t.rec.Finder; h.FinderPage != 0 && f == nil {
			if m, sym := findFinder(t.p, t.order()); m != nil {
				if f, err = makeFinder(t.p, m, sym, h.FinderPage); err != nil {
					return err
				}
			}
			if f != nil && (f.Active || inForce) {
				t.rec.Finder = f
			}
		}
		if !inForce {
			if f := t.rec.Finder; f != nil && f.Page == h.FinderPage && t.verifyOverlay(u, &r, patch.ReadOnly) == nil {
				r.Steers, r.Draining = nil, !r.out
				t.rec.Stays = append(t.rec.Stays, r)
			}
			continue
		}
		u.rec = r
		if err := t.verifyUnits([]UnitRecord{r}, []*unit{u}); err != nil {
			return fmt.Errorf("read inherited patch %s: %w", r.Patch.Short(), err)
		}
		t.rec.Units = append(t.rec.Units, r)
	}
	if len(t.rec.Units)+len(t.rec.Stays) == 0 {
		return nil
	}
	return t.keep()
}

// countSteered is the number of entries that have their jump.
func (t *txn) countSteered(r *UnitRecord) int {
	n := 0
	for _, s := range r.Steers {
		if b, err := t.bytesAt(s.At); err == nil && b == s.New {
			n++
		}
	}
	return n
}

// recover finishes or undoes what a run that was cut off left. The record
// says what was meant, memory how far it came.
func (t *txn) recover() (err error) {
	if t.rec.Phase == Done || t.rec.Phase == "" {
		return nil
	}
	t.tell("recover " + string(t.rec.Phase))
	if t.gadgets, err = t.p.FindGadgets(t.maps); err != nil {
		return err
	}
	if t.going, err = t.unitsFor(t.rec.Going); err != nil {
		return err
	}
	if f := t.rec.Finder; f != nil && f.Active {
		b, err := t.bytesAt(f.Steer.At)
		if err != nil {
			return err
		}
		f.Active = b != f.Steer.Old
	}
	if t.rec.Phase == Intent {
		err = t.finish()
	}
	var inForce []*unit
	if err == nil {
		inForce, err = t.unitsFor(t.rec.Units)
	}
	if err == nil {
		err = errors.Join(t.retireAgain(inForce), t.clearOut(false), t.scrubFinder())
	}
	t.units, t.going, t.finder = nil, nil, nil
	*t.res = Result{ID: t.res.ID, Program: t.res.Program, Sharing: t.res.Sharing, Reasons: t.res.Reasons}
	return err
}

// unitsFor are the units of records, all of them.
func (t *txn) unitsFor(recs []UnitRecord) (out []*unit, err error) {
	for i := range recs {
		u, err := t.unitOf(&recs[i])
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// finish changes the entries that are left, or undoes a change of which none is
// in force yet. Where some functions are new and some old, the entry level's
// rule is what the moment allows.
func (t *txn) finish() (err error) {
	if t.units, err = t.unitsFor(t.rec.Pending); err != nil {
		return err
	}
	for _, u := range t.units {
		for _, g := range t.going {
			if g.rec.Bias == u.rec.Bias {
				if err := u.replaces(g); err != nil {
					return err
				}
			}
		}
	}
	if t.edits, err = t.changes(); err != nil {
		return err
	}
	begun, left := 0, 0
	for _, e := range t.edits {
		switch b, err := t.bytesAt(e.at); {
		case err != nil:
			return err
		case b == e.new:
			begun++
		default:
			left++
		}
	}
	if begun == 0 {
		if err := t.retireAgain(t.going); err != nil {
			return err
		}
		t.rec.Units, t.rec.Going = append(t.rec.Units, t.rec.Going...), nil
		t.units, t.going = nil, nil
		return t.dropPending()
	}
	if left > 0 {
		if err := t.walk(); err != nil {
			return err
		}
		if err := t.change(now(t.edits)); err != nil {
			return err
		}
	}
	t.finder = nil
	if f := t.rec.Finder; f != nil {
		b, err := t.bytesAt(f.Steer.At)
		if err != nil {
			return err
		}
		if f.Active = b == f.Steer.New; !f.Active && slices.ContainsFunc(t.rec.Pending, func(r UnitRecord) bool { return r.Finder != 0 }) {
			if err := t.steerFinder(f); err != nil {
				return err
			}
		}
	}
	if err := t.verifyChange(); err != nil {
		return err
	}
	t.res.Level = Entry
	return t.recordDone()
}

// steerFinder puts a finder into force that is written but not steered to.
func (t *txn) steerFinder(f *FinderRecord) error {
	if err := t.walk(); err != nil {
		return err
	}
	if err := t.change(now([]edit{f.edit()})); err != nil {
		return err
	}
	f.Active = true
	return nil
}

// dropPending unmaps overlays that nothing leads to.
func (t *txn) dropPending() error {
	for _, r := range t.rec.Pending {
		if r.Finder != 0 && t.rec.Finder != nil {
			_ = t.rec.Finder.remove(t.put, r.Finder) // the page may never have been mapped
		}
		if t.oursAt(process.Range{Start: r.Start, End: r.End}) {
			if _, err := t.remote(munmap(process.Range{Start: r.Start, End: r.End})); err != nil {
				return err
			}
		}
	}
	t.rec.Pending = nil
	if f := t.rec.Finder; f != nil && !f.Active {
		r := process.Range{Start: f.Page, End: f.Page + page}
		switch b, err := t.bytesAt(f.Steer.At); {
		case err != nil:
			return err
		case b == f.Steer.New:
			f.Mapped, f.Active = true, true
		case !f.Mapped:
			t.rec.Finder = nil
			if t.oursAt(r) {
				if _, err := t.remote(munmap(r)); err != nil {
					return err
				}
			}
		}
	}
	if err := t.survey(); err != nil {
		return err
	}
	return t.settle()
}

// oursAt reports whether everything that is mapped in r is private, and
// anonymous or of a file of ours, and something is.
func (t *txn) oursAt(r process.Range) bool {
	found := false
	for _, m := range t.maps {
		if m.End <= r.Start || m.Start >= r.End {
			continue
		}
		if (m.Inode != 0 || m.Path != "") && !m.Placed() || m.Prot&process.Shared != 0 || m.Start < r.Start || m.End > r.End {
			return false
		}
		found = true
	}
	return found
}

// Status is what the record says of a process; nil when it has no patch. It
// looks whether threads have left old code.
func (e *Engine) Status(pid int) (*Record, error) {
	var res Result
	t, end, err := e.begin(process.ID{Pid: pid}, true, &res)
	if err != nil {
		var locked *Reason
		if errors.As(err, &locked) && locked.Code == Locked {
			rec, err := e.store.last(append([]process.ID{res.ID}, res.Sharing...), func(*Record) bool { return true })
			if rec != nil {
				if rec.UnderWay = true; rec.Phase == Intent { // until the entries are changed
					rec.Units = append(rec.Units, rec.Going...)
				}
			}
			return rec, err
		}
		return nil, err
	}
	defer end()
	t.rec.Notes = res.Reasons
	if len(t.rec.Units)+len(t.rec.Stays)+len(t.rec.Notes) == 0 && t.rec.Left == 0 {
		return nil, nil
	}
	for i := range t.rec.Units {
		if p, err := t.store.Patch(t.rec.Units[i].Patch); err == nil {
			t.rec.Units[i].Lacking = !t.everywhere(p)
		}
	}
	return t.rec, t.drained()
}
