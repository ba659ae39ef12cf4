package engine

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
)

// Remove takes patches out of a process, all when ids is empty: the entries get
// the baseline's bytes back. What bytes those are says the record, never the
// process.
func (e *Engine) Remove(pid int, ids []patch.ID) (res Result) {
	t, end, err := e.begin(pid, &res)
	if err == nil {
		defer end()
		err = t.remove(ids)
	}
	if err != nil {
		res.fail(t.why(err))
		if t != nil && !t.p.Alive() {
			res.State = Exited
		}
	}
	return res
}

func (t *txn) remove(ids []patch.ID) error {
	var leaving, staying []UnitRecord
	for _, u := range t.rec.Units {
		if len(ids) == 0 || slices.Contains(ids, u.Patch) {
			leaving = append(leaving, u)
		} else {
			staying = append(staying, u)
		}
	}
	if len(leaving) == 0 {
		t.res.State = Already
		return nil
	}
	for i := range leaving {
		if err := needed(&leaving[i], staying); err != nil {
			return err
		}
	}
	err := t.p.Alone(t.opts.Deadline)
	if err != nil {
		return err
	}
	if t.gadgets, err = t.p.FindGadgets(t.maps); err != nil {
		return &Reason{Code: NoThread, Detail: err.Error()}
	}
	if err := t.room(); err != nil {
		return err
	}
	err = t.run([]step{
		{"record intent", func() error {
			t.rec.Units, t.rec.Pending, t.rec.Phase = staying, leaving, Leaving
			return t.store.Save(t.rec)
		}, func() error {
			t.rec.Units, t.rec.Pending = append(staying, leaving...), nil
			return t.settle()
		}},
		{"restore", func() error { return t.restore(true) }, nil},
	})
	if err != nil {
		return err
	}
	t.report(Event{Pid: t.p.Pid, State: "clear out"})
	if err := t.clearOut(); err != nil {
		return err
	}
	t.res.State, t.res.Verified = Removed, true
	for _, u := range leaving {
		t.res.Patches = append(t.res.Patches, u.Patch)
		t.res.Functions += len(u.Steers)
	}
	t.res.Left = t.rec.Left
	return nil
}

// needed refuses to take out a patch that another one imports from.
func needed(leaving *UnitRecord, staying []UnitRecord) error {
	for _, s := range staying {
		for _, a := range s.Imports {
			if a >= leaving.Start && a < leaving.End {
				return &Reason{Code: Conflict, Detail: fmt.Sprintf("patch %s calls what patch %s adds", s.Patch.Short(), leaving.Patch.Short())}
			}
		}
	}
	return nil
}

// restore gives the entries of the pending patches the baseline's bytes.
func (t *txn) restore(strict bool) error {
	var edits []edit
	var inside []area
	entryOK := true
	for i := range t.rec.Pending {
		r := &t.rec.Pending[i]
		u, err := t.unitOf(r)
		if err != nil {
			return err
		}
		t.units = append(t.units, u)
		entryOK = entryOK && u.patch.EntryAllowed
		for _, s := range r.Steers {
			edits = append(edits, edit{at: s.At, old: s.New, new: s.Old, name: s.Name, module: u.patch.Module})
		}
		for _, c := range u.code() {
			inside = append(inside, area{c, "patch " + u.patch.ID.Short(), u.patch.Module})
		}
	}
	if f := t.rec.Finder; f != nil && f.Active && len(t.rec.Units) == 0 {
		edits = append(edits, edit{at: f.Steer.At, old: f.Steer.New, new: f.Steer.Old, name: finderName, module: f.Path})
	}
	if err := t.walk(); err != nil {
		return err
	}
	if !strict {
		return t.change(edits, nil, true)
	}
	return t.change(edits, newAreas(append(inside, entries(edits)...)), entryOK)
}

// clearOut unmaps what nothing can lead to any more, once the entries are
// restored: the code, unless a thread or a coroutine may be in it or an address
// of it may have escaped. Data stays, since the program may hold on to it.
func (t *txn) clearOut() error {
	if f := t.rec.Finder; f != nil {
		for _, r := range t.rec.Pending {
			if r.Finder != 0 {
				if err := f.remove(t.put, r.Finder); err != nil {
					return err
				}
			}
		}
		if len(t.rec.Units) == 0 {
			f.Active = false // its page stays: a thread may be in it
		}
	}
	for i, u := range t.units {
		if err := t.verifyRestored(&t.rec.Pending[i]); err != nil {
			return err
		}
		if !t.oursAt(u.room) {
			continue // a run that was cut off has unmapped it
		}
		// What stays must not look like a patch to who has no record of it.
		if err := t.put(u.header(), make([]byte, u.patch.HeaderLen)); err != nil {
			return err
		}
		switch {
		case t.res.Level != Strict || u.patch.Escapes || t.mayReturn(u):
			t.rec.Left += int64(u.room.End - u.room.Start)
		case !u.patch.DataEscapes:
			if err := t.remote([]remoteCall{munmap(u.room)}); err != nil {
				return err
			}
		default:
			var calls []remoteCall
			for _, c := range u.code() {
				calls = append(calls, mmap("nothing", c, unix.PROT_NONE, unix.MAP_FIXED))
			}
			if err := t.remote(calls); err != nil {
				return err
			}
			t.rec.Left += int64(u.room.End - u.room.Start)
		}
	}
	t.rec.Pending, t.units = nil, nil
	return t.settle()
}

// mayReturn reports whether a stack that no thread is on, a suspended
// coroutine's, may lead back into the unit's code: somewhere in memory is an
// address of it. The threads' own stacks were walked. A word that means nothing
// any more costs some address space, no more.
func (t *txn) mayReturn(u *unit) bool {
	const limit = 1 << 30 // bytes to search: about a second
	maps, err := t.p.Maps()
	if err != nil {
		return true
	}
	at, err := t.p.FindPointer(maps, u.code(), append(slices.Clone(t.stacks), u.room), limit)
	return at != 0 || err != nil
}

func (t *txn) verifyRestored(r *UnitRecord) error {
	for _, s := range r.Steers {
		b, err := t.bytesAt(s.At)
		if err != nil {
			return err
		}
		if b != s.Old {
			return &Reason{Code: Differs, Function: s.Name, Detail: fmt.Sprintf("entry at %v: expected % x, found % x", s.At, s.Old, b)}
		}
	}
	return nil
}

// finishLeaving ends a removal that was cut off. Some entries may be restored
// already; none is waited for again, so the code stays mapped.
func (t *txn) finishLeaving() error {
	if err := t.restore(false); err != nil {
		return err
	}
	err := t.clearOut()
	*t.res = Result{ID: t.p.ID}
	return err
}

// back undoes a commit whose verification failed.
func (t *txn) back(edits []edit) error {
	var reverse []edit
	var inside []area
	for _, e := range edits {
		e.old, e.new = e.new, e.old
		reverse = append(reverse, e)
	}
	for _, u := range t.units {
		for _, c := range u.code() {
			inside = append(inside, area{c, "patch " + u.patch.ID.Short(), u.patch.Module})
		}
	}
	return t.change(reverse, newAreas(append(inside, entries(edits)...)), false)
}
