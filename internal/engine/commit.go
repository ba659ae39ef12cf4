package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"hotpatch/internal/module"
	"hotpatch/internal/process"
)

// area is code in which no thread may have a frame.
type area struct {
	process.Range
	name, module string
}

// areas are sorted and do not overlap.
type areas []area

func (a areas) ranges() []process.Range {
	out := make([]process.Range, len(a))
	for i := range a {
		out[i] = a[i].Range
	}
	return out
}

// newAreas sorts, and joins what overlaps.
func newAreas(in []area) areas {
	slices.SortFunc(in, func(a, b area) int { return cmp.Compare(a.Start, b.Start) })
	var out areas
	for _, a := range in {
		if n := len(out); n > 0 && a.Start < out[n-1].End {
			out[n-1].End = max(out[n-1].End, a.End)
			continue
		}
		out = append(out, a)
	}
	return out
}

// entries are the bytes to be overwritten.
func entries(edits []edit) []area {
	var out []area
	for _, e := range edits {
		out = append(out, area{process.Range{Start: e.at, End: e.at + 5}, e.name, e.module})
	}
	return out
}

func moved(name, mod string, bias process.Addr, ranges []module.Range) []area {
	var out []area
	for _, r := range ranges {
		out = append(out, area{process.Range{Start: bias + process.Addr(r.Start), End: bias + process.Addr(r.End)}, name, mod})
	}
	return out
}

// commit changes the entries as soon as the threads allow it.
func (t *txn) commit() error {
	if err := t.walk(); err != nil {
		return err
	}
	// Each patch says whether the level entry is safe with it alone.
	entryOK := len(t.units)+len(t.going) == 1 || len(t.edits) == 1
	why := "several patches change together: old and new code must not run side by side"
	for _, u := range slices.Concat(t.units, t.going) {
		if !u.patch.EntryAllowed {
			entryOK, why = false, u.patch.EntryWhy
		}
	}
	old := entries(t.edits)
	for _, u := range t.units {
		for _, o := range u.patch.Old {
			old = append(old, moved(o.Name, u.patch.Module, u.mod.Bias, o.Ranges)...)
		}
	}
	for _, u := range t.going {
		old = append(old, u.areas()...)
	}
	c := change{edits: t.edits, areas: newAreas(old), entryOK: entryOK, entryWhy: why, optional: true}
	escapes := slices.ContainsFunc(t.going, func(u *unit) bool { return u.patch.Escapes })
	if f := t.rec.Finder; f != nil && f.Active && len(t.units) == 0 && !escapes && !t.finderNeeded() {
		c.strict = []edit{f.edit().reversed()} // while frames are in new code, it is needed
	}
	if sym := switchesStacks(t.p, t.maps, t.mods); sym != "" {
		if !entryOK || t.opts.Level == Strict {
			return &Reason{Code: StackSwitch, Detail: "the program uses " + sym + ": suspended stacks cannot be found"}
		}
		c.areas = nil
	}
	return t.change(c)
}

// areas are the unit's code, in which no thread may be when it goes.
func (u *unit) areas() []area {
	var out []area
	for _, r := range u.code() {
		out = append(out, area{r, "patch " + u.patch.ID.Short(), u.patch.Module})
	}
	return out
}

// walk prepares the walking of stacks.
func (t *txn) walk() (err error) {
	if t.walker, err = process.NewUnwinder(t.p); err != nil {
		return err
	}
	for _, u := range slices.Concat(t.unitsOf(t.rec.Units), t.units, t.going) {
		for _, r := range u.code() {
			t.walker.Add(process.Code{Range: r, Bias: u.over, Table: unwindTable(u.patch), Name: "patch " + u.patch.ID.Short()})
		}
	}
	return nil
}

// change is what is to be written in one stop.
type change struct {
	edits    []edit
	strict   []edit // also, at the level strict
	areas    areas  // in which no thread may have a frame at the level strict; nil when that is not to be tried
	entryOK  bool
	entryWhy string // why it is not; empty where the level asked for does not matter
	// optional: it is given up when it waits and the engine is cancelled.
	optional bool
}

// now puts changes into force that nothing has to be proved for.
func now(edits []edit) change { return change{edits: edits, entryOK: true} }

// change writes edits in a stop of all threads in which none has a frame in
// the areas, or at least in the bytes themselves. Between the tries everything
// runs.
func (t *txn) change(what change) error {
	for _, e := range slices.Concat(what.edits, what.strict) { // a page that is written first in the stop costs microseconds
		if b, err := t.bytesAt(e.at); err == nil && b == e.old {
			_ = t.p.Write(e.at, b[:1]) // fails where only a tracer may; then it costs them
		}
	}
	c := changer{txn: t, what: what, areas: what.areas, level: Strict}
	if what.areas == nil || t.opts.Level == Entry && what.entryOK {
		c.toEntry()
	}
	if t.opts.Level == Entry && what.entryWhy != "" && !what.entryOK {
		return &Reason{Code: LevelRefused, Detail: what.entryWhy}
	}
	end := time.Now().Add(t.opts.Deadline)
	suspects, err := t.p.Tids()
	if err != nil {
		return err
	}
	if !t.crowd || len(suspects) > 1 { // else the one look is as good as the other
		c.suspects = suspects
	}
	last := false
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		t.res.Tries++
		done, err := c.try()
		if done {
			t.written = c.all()
		}
		if err != nil || done {
			t.res.Level = c.level
			return err
		}
		if what.optional && t.cancelled.Load() {
			return errCancelled
		}
		if c.stale {
			if err := t.walker.Refresh(); err != nil {
				return err
			}
		}
		if time.Now().After(end) || t.res.Tries >= t.opts.MaxStops {
			if c.level == Strict && what.entryOK && t.opts.Level == Auto {
				c.toEntry()
				end = time.Now().Add(time.Second)
				continue
			}
			if last || len(c.hits) == 0 {
				return c.blockers()
			}
			last, c.suspects = true, nil // looks at all, to name all
		}
		t.sleep(wait)
	}
}

func (t *txn) bytesAt(a process.Addr) (b [5]byte, err error) {
	err = t.p.Read(a, b[:])
	return b, err
}

// changer is one way to change entries, tried again and again.
type changer struct {
	*txn
	what     change
	areas    areas
	level    Level
	suspects []int // threads to look at alone before all are stopped
	hits     []process.Hit
	busy     *process.BusyError
	stale    bool
	slow     bool // the look at the stacks took longer than the budget
}

// toEntry lets old frames be.
func (c *changer) toEntry() { c.level, c.areas = Entry, newAreas(entries(c.what.edits)) }

// all are the edits of the level.
func (c *changer) all() []edit {
	if c.level == Strict {
		return slices.Concat(c.what.edits, c.what.strict)
	}
	return c.what.edits
}

// try looks at the threads that were in the way before, each alone, and only
// when none is stops them all. That first look also fills the unwinder's cache.
func (c *changer) try() (done bool, err error) {
	ranges, edits := c.areas.ranges(), c.all()
	c.hits, c.stale, c.slow, c.busy = nil, false, false, nil
	tids, err := c.p.Tids()
	if err != nil {
		return false, err
	}
	var one [1]process.Thread
	places := placesOf(c.p, edits)
	err = c.p.Trace(func(tr *process.Tracer) error {
		for begun := time.Now(); len(c.suspects) > 0 && time.Since(begun) < c.opts.Budget; c.suspects = c.suspects[1:] {
			if err := tr.StopOne(c.suspects[0], c.opts.Budget); err != nil {
				if errors.Is(err, process.ErrExited) || errors.As(err, new(*process.BusyError)) {
					continue // where many are busy it waits for a processor; all at once come to a stop sooner
				}
				return err
			}
			copy(one[:], tr.Threads())
			c.walker.Load(one[:])
			held := tr.Resume()
			hits, ok := c.walker.Loaded(one[:], ranges, nil)
			c.res.Prepare = max(c.res.Prepare, held.Microseconds())
			c.hits = append(c.hits, hits...)
			c.stale = c.stale || !ok
		}
		if len(c.hits) > 0 || c.stale {
			return nil
		}
		c.walker.Reserve(len(tids))
		if err := tr.Stop(c.opts.Budget); err != nil {
			return err
		}
		over := func() bool { c.slow = tr.Held() > c.opts.Budget; return c.slow }
		stopped := tr.Held()
		hits, ok := c.walker.Inside(tr.Threads(), ranges, over)
		checked := tr.Held()
		var werr error
		if ok && len(hits) == 0 {
			werr = write(tr, edits, places)
			done = werr == nil
		}
		threads := tr.Threads()
		held := tr.Resume()
		if done {
			c.res.Pause, c.res.Check = held.Microseconds(), (checked - stopped).Microseconds()
			c.stacks, c.unwound = process.OwnStacks(c.maps, threads), c.walker.Complete()
		}
		c.hits, c.stale = hits, !ok
		return werr
	})
	if errors.As(err, &c.busy) {
		err = nil
	}
	c.suspects = c.suspects[:0]
	for _, h := range c.hits {
		c.suspects = append(c.suspects, h.Tid)
	}
	if errors.Is(err, process.ErrExited) && c.p.Alive() {
		err = nil // a thread ended, not the process
	}
	return done, err
}

// placesOf are the entries, to be read at once.
func placesOf(p *process.Process, edits []edit) *process.Places {
	at := make([]process.Addr, len(edits))
	for i := range edits {
		at[i] = edits[i].at
	}
	return p.NewPlaces(at, len(edit{}.old))
}

// write changes the entries while all threads are held. An entry that has its
// new bytes already, from a run that was cut off, is left.
func write(tr *process.Tracer, edits []edit, places *process.Places) error {
	if err := places.Read(); err != nil {
		return err
	}
	for i := range edits {
		e := &edits[i]
		if b := places.At(i); !bytes.Equal(b, e.old[:]) && !bytes.Equal(b, e.new[:]) {
			return &Reason{
				Code: EntryChanged, Function: e.name, Module: e.module,
				Detail: fmt.Sprintf("changed by another at %v: expected % x, found % x", e.at, e.old, b),
			}
		}
	}
	for i := range edits {
		if err := tr.Write(edits[i].at, edits[i].new[:]); err != nil {
			for j := range edits[:i] {
				err = errors.Join(err, tr.Write(edits[j].at, edits[j].old[:]))
			}
			return err
		}
	}
	return nil
}

// blockers names the threads that were in the way last.
func (c *changer) blockers() error {
	if len(c.hits) == 0 && c.busy != nil {
		return fmt.Errorf("%w (budget %v)", c.busy, c.opts.Budget)
	}
	var out reasons
	const most = 32
	for _, h := range c.hits[:min(most, len(c.hits))] {
		a := c.areas[h.Range]
		r := Reason{Code: ThreadInside, Pid: c.p.OwnerOf(h.Tid), Tid: h.Tid, Thread: process.NameOf(h.Tid), Function: a.name, Module: a.module}
		if !h.Sure {
			r.Code, r.Detail = MaybeInside, "its stack cannot be unwound; "+h.PC.String()+" is on it"
		}
		_ = c.p.Trace(func(tr *process.Tracer) error {
			if err := tr.StopOne(h.Tid, c.opts.Budget); err != nil {
				return err
			}
			frames, _ := c.walker.Stack(&tr.Threads()[0])
			tr.Resume()
			for _, f := range frames[:min(64, len(frames))] {
				r.Stack = append(r.Stack, c.walker.Name(f.PC))
			}
			return nil
		})
		out = append(out, r)
	}
	if n := len(c.hits) - most; n > 0 {
		out = append(out, Reason{Code: ThreadInside, Detail: fmt.Sprintf("and %d threads more", n)})
	}
	if len(out) == 0 && c.slow {
		return &Reason{Code: ThreadBusy, Detail: fmt.Sprintf("the look at its stacks takes longer than the budget of %v: raise --budget", c.opts.Budget)}
	}
	if len(out) == 0 {
		return &Reason{Code: ThreadBusy, Detail: "the process was never seen at rest"}
	}
	return out
}
