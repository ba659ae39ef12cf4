package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// Remove takes patches out of a process, all when ids is empty: the entries get
// the baseline's bytes back. What bytes those are says the record, never the
// process.
func (e *Engine) Remove(pid int, ids []patch.ID) Result {
	return e.takeOut(process.ID{Pid: pid}, ids, false)
}

// Revert is Remove for the last step alone: where a patch replaced an earlier
// one, that one comes back.
func (e *Engine) Revert(pid int, ids []patch.ID) Result {
	return e.takeOut(process.ID{Pid: pid}, ids, true)
}

func (e *Engine) takeOut(id process.ID, ids []patch.ID, oneStep bool) (res Result) {
	t, end, err := e.enter(id, false, &res)
	if err == nil {
		defer end()
		if err = t.again(func() error { return t.remove(ids, oneStep) }); err == nil {
			err = t.stayed()
		}
	}
	if err != nil {
		res.fail(t.why(err))
		if res.Patches = slices.Clone(ids); len(ids) == 0 && t != nil {
			for _, u := range t.rec.Units {
				res.Patches = append(res.Patches, u.Patch)
			}
		}
	}
	e.store.note(&res)
	return res
}

func (t *txn) remove(ids []patch.ID, oneStep bool) error {
	if err := t.inOrder(ids); err != nil {
		return err
	}
	t.res.Restored = nil
	for i := range t.rec.Units {
		r := &t.rec.Units[i]
		if len(ids) > 0 && !slices.Contains(ids, r.Patch) {
			continue
		}
		if n := len(r.Replaced) - 1; oneStep && n >= 0 {
			p, err := t.store.Patch(r.Replaced[n])
			if err != nil {
				return err
			}
			m := t.moduleOf(r)
			if m == nil {
				return &Reason{Code: NoModule, Module: p.Module, Detail: "it is no longer mapped"}
			}
			u := &unit{patch: p, mod: *m, again: true}
			u.rec.Replaced = r.Replaced[:n]
			t.units = append(t.units, u)
			t.res.Restored = append(t.res.Restored, p.ID)
			continue
		}
		u, err := t.unitOf(r)
		if err != nil {
			return err
		}
		t.going = append(t.going, u)
	}
	if len(t.units)+len(t.going) == 0 {
		t.res.State = Already
		return nil
	}
	if err := t.exchange(); err != nil {
		return err
	}
	t.res.State = Removed
	for _, u := range t.going {
		if !slices.Contains(t.res.Patches, u.rec.Patch) {
			t.res.Patches = append(t.res.Patches, u.rec.Patch)
		}
		t.res.Functions += len(u.rec.Steers)
	}
	t.res.Left = t.rec.left()
	return nil
}

// inOrder refuses to take out a patch that a later one replaced, and says in
// which order they go.
func (t *txn) inOrder(ids []patch.ID) error {
	for _, id := range ids {
		for _, r := range t.rec.Units {
			i := slices.Index(r.Replaced, id)
			if i < 0 || slices.Contains(ids, r.Patch) {
				continue
			}
			order := []string{r.Patch.Short()}
			for k := len(r.Replaced) - 1; k >= i; k-- {
				order = append(order, r.Replaced[k].Short())
			}
			return &Reason{
				Code: Conflict, Module: r.Path,
				Detail: fmt.Sprintf("patch %s was replaced by %s; they go in the order %s", id.Short(), r.Patch.Short(), strings.Join(order, ", ")),
			}
		}
	}
	return nil
}

// needed refuses to take out a patch that another one imports from.
func needed(leaving *UnitRecord, staying []UnitRecord) error {
	for _, s := range staying {
		for _, a := range s.Imports {
			if a >= leaving.Start && a < leaving.End {
				return &Reason{
					Code:   Conflict,
					Detail: fmt.Sprintf("patch %s calls what patch %s adds; they go in the order %s, %[2]s", s.Patch.Short(), leaving.Patch.Short(), s.Patch.Short()),
				}
			}
		}
	}
	return nil
}

// clearOut writes down that what was replaced or taken out is out of force, and
// takes away what nothing can lead to any more. proved says that no thread is in
// what is going; of what went before, it says nothing.
func (t *txn) clearOut(proved bool) error {
	for _, r := range t.rec.Going {
		r.Draining = true
		t.rec.Stays = append(t.rec.Stays, r)
	}
	t.rec.Going = nil
	if err := t.settle(); err != nil {
		return err
	}
	if proved {
		return t.clear(t.going)
	}
	return t.leave()
}

// leave takes away the code of patches that are out of force once no thread is
// in it. Nothing can come into it any more, but by an address that the program
// holds: then it stays.
func (t *txn) leave() error {
	var left []*unit
	for _, u := range t.unitsOf(t.rec.Stays) {
		if !u.rec.Draining {
			continue
		}
		inside, err := t.anyInside(newAreas(u.areas()).ranges())
		if err != nil {
			return err
		}
		if !inside {
			left = append(left, u)
		}
	}
	return t.clear(left)
}

// clear takes away the code of units that are out of force and that no thread
// is in.
func (t *txn) clear(units []*unit) (err error) {
	if len(units) == 0 {
		return nil
	}
	if t.gadgets, err = t.p.FindGadgets(t.maps); err != nil {
		return err
	}
	for _, u := range units {
		i := slices.IndexFunc(t.rec.Stays, func(r UnitRecord) bool { return r.Start == u.rec.Start && r.Draining })
		gone, err := t.clearUnit(u, &t.rec.Stays[i])
		if err != nil {
			return errors.Join(err, t.settle())
		}
		if t.rec.Stays[i].Draining = false; gone {
			t.rec.Stays = slices.Delete(t.rec.Stays, i, i+1)
		}
	}
	if f := t.rec.Finder; f != nil && f.Active && !t.finderNeeded() {
		if err := t.walk(); err != nil {
			return err
		}
		res := *t.res // of the transaction, not of this
		err := t.change(now([]edit{f.edit().reversed()}))
		if *t.res = res; err != nil {
			return err
		}
		f.Active = false
	}
	return t.settle()
}

// finderNeeded reports whether exceptions may come to code of ours.
func (t *txn) finderNeeded() bool {
	return len(t.rec.Units) > 0 || slices.ContainsFunc(t.unitsOf(t.rec.Stays), func(u *unit) bool { return u.rec.Draining || u.patch.Escapes })
}

// clearUnit takes away the code of a unit that no thread is in, unless an
// address of it may be held. Data stays, since the program may hold on to it.
// What is done of it when it fails is on record: it is done again.
func (t *txn) clearUnit(u *unit, r *UnitRecord) (gone bool, err error) {
	if !t.oursAt(u.room) {
		return true, nil // a run that was cut off has unmapped it
	}
	size := int64(u.room.End - u.room.Start)
	if u.patch.Escapes || u.rec.Sealed || t.mayReturn(u) {
		// Who has no record of it, as a child, must know it and not take it for a patch in force.
		r.Retired, r.out = false, true
		if err := t.putHeader(u, r); err != nil {
			return false, err
		}
		t.rec.Left += size
		return false, nil
	}
	if err := t.put(u.header(), make([]byte, u.patch.HeaderLen)); err != nil {
		return false, err
	}
	if f := t.rec.Finder; f != nil && r.Finder != 0 {
		if err := f.remove(t.put, r.Finder); err != nil {
			return false, err
		}
		r.Finder = 0 // the next patch may get the place
	}
	if !u.patch.DataEscapes {
		_, err := t.remote(munmap(u.room))
		return true, err
	}
	var calls []remoteCall
	for _, c := range u.code() {
		calls = append(calls, mmap("nothing", c, unix.PROT_NONE, unix.MAP_FIXED))
	}
	if _, err := t.remote(calls...); err != nil {
		return false, err
	}
	t.rec.Left += size
	return true, nil
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
	skip := append(slices.Clone(t.stacks), u.room)
	for _, c := range t.units {
		skip = append(skip, c.room) // it may hold addresses of what it replaces: jumps to them are steered
	}
	at, err := t.p.FindPointer(maps, u.code(), skip, limit)
	return at != 0 || err != nil
}

// back undoes a change whose verification failed.
func (t *txn) back() error {
	var reverse []edit
	var inside []area
	for _, e := range t.written {
		reverse = append(reverse, e.reversed())
	}
	for _, u := range t.units {
		inside = append(inside, u.areas()...)
	}
	return t.change(change{edits: reverse, areas: newAreas(append(inside, entries(reverse)...))})
}
