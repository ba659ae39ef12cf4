package engine

import (
	"errors"
	"slices"

	"hotpatch/internal/process"
)

// With the level entry, threads that were inside a replaced function finish it
// in old code: the process drains. Nothing can come into that code any more, so
// it is enough to find each thread outside once, one after the other.

// drained looks whether old frames have left the patches that went in at the
// level entry, and writes it down. A thread that cannot be looked at counts as
// inside.
func (t *txn) drained() error {
	var old []area
	for _, u := range t.unitsOf(t.rec.Units) {
		if !u.rec.Draining {
			continue
		}
		for _, o := range u.patch.Old {
			old = append(old, moved(o.Name, u.patch.Module, u.mod.Bias, o.Ranges)...)
		}
	}
	if old == nil {
		return nil
	}
	ranges := newAreas(old).ranges()
	if switchesStacks(t.p, t.maps, t.mods) != "" {
		// A suspended coroutine's stack holds an address of the code that it returns to.
		const limit = 1 << 30 // bytes to search: about a second
		if at, err := t.p.FindPointer(t.maps, ranges, nil, limit); at != 0 || err != nil {
			return err
		}
	}
	inside, err := t.anyInside(ranges)
	if err != nil || inside {
		return err
	}
	for i := range t.rec.Units {
		t.rec.Units[i].Draining = false
	}
	return t.keep()
}

// anyInside reports whether a thread may have a frame in the ranges. Each is
// held alone, and only while its stack is read.
func (t *txn) anyInside(ranges []process.Range) (bool, error) {
	if err := t.walk(); err != nil {
		return false, err
	}
	tids, err := t.p.Tids()
	if err != nil {
		return false, err
	}
	inside := false
	err = t.p.Trace(func(tr *process.Tracer) error {
		for _, tid := range tids {
			switch err := tr.StopOne(tid, t.opts.Budget); {
			case errors.Is(err, process.ErrExited):
				continue
			case errors.As(err, new(*process.BusyError)):
				inside = true
				return nil
			case err != nil:
				return err
			}
			th := slices.Clone(tr.Threads())
			t.walker.Load(th)
			tr.Resume()
			hits, ok := t.walker.Loaded(th, ranges, nil)
			if inside = inside || len(hits) > 0 || !ok; inside {
				return nil
			}
		}
		return nil
	})
	if errors.Is(err, process.ErrExited) && t.p.Alive() {
		err = nil // a thread ended, not the process
	}
	return inside, err
}
