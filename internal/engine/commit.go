package engine

import (
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
func (t *txn) commit(edits []edit) error {
	if err := t.walk(); err != nil {
		return err
	}
	entryOK := true
	old := entries(edits)
	for _, u := range t.units {
		entryOK = entryOK && u.patch.EntryAllowed
		for _, o := range u.patch.Old {
			old = append(old, moved(o.Name, u.patch.Module, u.mod.Bias, o.Ranges)...)
		}
		if u.prev != nil {
			prev, err := t.unitOf(u.prev)
			if err != nil {
				return err
			}
			for _, r := range prev.code() {
				old = append(old, area{r, "patch " + u.prev.Patch.Short(), u.patch.Module})
			}
		}
	}
	if sym := switchesStacks(t.p, t.maps, t.mods); sym != "" {
		reason := &Reason{Code: StackSwitch, Detail: "the program uses " + sym + ": suspended stacks cannot be found"}
		if !entryOK || t.opts.Level == Strict {
			return reason
		}
		return t.change(edits, nil, true)
	}
	return t.change(edits, newAreas(old), entryOK)
}

// walk prepares the walking of stacks.
func (t *txn) walk() (err error) {
	if t.walker, err = process.NewUnwinder(t.p); err != nil {
		return err
	}
	for _, u := range slices.Concat(t.recordedUnits(), t.units) {
		for _, r := range u.code() {
			t.walker.Add(process.Code{Range: r, Bias: u.over, Table: unwindTable(u.patch), Name: "patch " + u.patch.ID.Short()})
		}
	}
	return nil
}

// change writes the edits in a stop of all threads in which none has a frame in
// the areas (strict; nil when that is not to be tried) or at least in the bytes
// themselves. Between the tries everything runs.
func (t *txn) change(edits []edit, strict areas, entryOK bool) error {
	for _, e := range edits { // a page that is written first in the stop costs microseconds
		if b, err := t.bytesAt(e.at); err == nil && b == e.old {
			_ = t.p.Write(e.at, b[:1]) // fails where only a tracer may; then it costs them
		}
	}
	c := changer{txn: t, edits: edits, areas: strict, level: Strict}
	if strict == nil || t.opts.Level == Entry && entryOK {
		c.areas, c.level = newAreas(entries(edits)), Entry
	}
	if t.opts.Level == Entry && !entryOK {
		return &Reason{Code: Conflict, Detail: "the level entry is not safe with this patch"}
	}
	end := time.Now().Add(t.opts.Deadline)
	suspects, err := t.p.Tids()
	if err != nil {
		return err
	}
	c.suspects = suspects
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		t.res.Tries++
		done, err := c.try()
		if err != nil || done {
			t.res.Level = c.level
			return err
		}
		if c.stale {
			if err := t.walker.Refresh(); err != nil {
				return err
			}
		}
		if time.Now().After(end) || t.res.Tries >= t.opts.MaxStops {
			if c.level == Strict && entryOK && t.opts.Level == Auto {
				c.areas, c.level, end = newAreas(entries(edits)), Entry, time.Now().Add(time.Second)
				continue
			}
			return c.blockers()
		}
		time.Sleep(wait)
	}
}

func (t *txn) bytesAt(a process.Addr) (b [5]byte, err error) {
	err = t.p.Read(a, b[:])
	return b, err
}

// changer is one way to change entries, tried again and again.
type changer struct {
	*txn
	edits    []edit
	areas    areas
	level    Level
	suspects []int // threads to look at alone before all are stopped
	hits     []process.Hit
	busy     *process.BusyError
	stale    bool
}

// try looks at the threads that were in the way before, each alone, and only
// when none is stops them all. That first look also fills the unwinder's cache.
func (c *changer) try() (done bool, err error) {
	ranges := c.areas.ranges()
	c.hits, c.stale, c.busy = nil, false, nil
	tids, err := c.p.Tids()
	if err != nil {
		return false, err
	}
	var one [1]process.Thread
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
		over := func() bool { return tr.Held() > c.opts.Budget }
		hits, ok := c.walker.Inside(tr.Threads(), ranges, over)
		var werr error
		if ok && len(hits) == 0 {
			werr = write(tr, c.edits)
			done = werr == nil
		}
		threads := tr.Threads()
		held := tr.Resume()
		if done {
			c.res.Pause = held.Microseconds()
			c.stacks = process.OwnStacks(c.maps, threads)
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

// write changes the entries while all threads are held. An entry that has its
// new bytes already, from a run that was cut off, is left.
func write(tr *process.Tracer, edits []edit) error {
	for i := range edits {
		e := &edits[i]
		var b [5]byte
		if err := tr.Process().Read(e.at, b[:]); err != nil {
			return err
		}
		if b != e.old && b != e.new {
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
		return c.busy
	}
	var out reasons
	const most = 32
	for _, h := range c.hits[:min(most, len(c.hits))] {
		a := c.areas[h.Range]
		r := Reason{Code: ThreadInside, Pid: c.p.Pid, Tid: h.Tid, Thread: process.NameOf(h.Tid), Function: a.name, Module: a.module}
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
	if len(out) == 0 {
		return &Reason{Code: ThreadBusy, Detail: "the process was never seen at rest"}
	}
	return out
}
