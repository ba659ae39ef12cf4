package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hotpatch/internal/process"
)

// Processes that share memory are one target: what is put into it is in all of
// them. One transaction holds them all, and each has a copy of the record, by
// which the others are patched, verified and rolled back when it has ended.

// enter is begin for a transaction: where memory is shared, each process may be
// asked for, and the second waits for the first.
func (e *Engine) enter(id process.ID, look bool, res *Result) (t *txn, end func(), err error) {
	const wait = 20 * time.Millisecond
	for last := time.Now().Add(e.opts.Deadline); ; time.Sleep(wait) {
		if e.cancelled.Load() {
			res.ID = id
			return nil, nil, errCancelled
		}
		t, end, err = e.begin(id, look, res)
		var reason *Reason
		if !errors.As(err, &reason) || reason.Code != Locked || len(res.Sharing) == 0 || time.Now().After(last) {
			return t, end, err
		}
	}
}

// lock keeps other transactions away from all processes that have the memory.
func (t *txn) lock() error {
	for _, id := range sharers(t.p) {
		unlock, err := t.store.Lock(id)
		if err != nil {
			t.unlock()
			return err
		}
		t.locks[id] = unlock
	}
	return nil
}

func (t *txn) unlock() {
	for _, unlock := range t.locks {
		unlock()
	}
	clear(t.locks)
}

// sharers are the processes that have the memory.
func sharers(p *process.Process) []process.ID {
	if ids := p.Sharing(); ids != nil {
		return ids
	}
	return []process.ID{p.ID}
}

// meet looks again which processes share the memory, and reports whether others
// than the record says. Those that have left it have no part in the record.
func (t *txn) meet() (changed bool, err error) {
	if err := t.p.Meet(); err != nil {
		return false, err
	}
	before, now := t.rec.of(), sharers(t.p)
	for _, id := range before {
		if !slices.Contains(now, id) {
			t.store.Drop(id)
			changed = true
		}
	}
	for _, id := range now {
		if !slices.Contains(before, id) {
			changed = true
		}
		if t.locks[id] == nil { // no transaction can begin in it while the others are locked
			if unlock, err := t.store.Lock(id); err == nil {
				t.locks[id] = unlock
			}
		}
	}
	t.rec.ID, t.rec.Sharing = t.p.ID, t.p.Sharing()
	t.res.Sharing = t.rec.Sharing
	return changed, nil
}

// recorded is the record of the memory, nil when there is none. A run that was
// cut off may have written some of its copies: the last one counts. What cannot
// be read is none.
func (t *txn) recorded() (*Record, error) {
	for {
		rec, err := t.store.last(sharers(t.p), t.stillMapped)
		var damaged *damagedError
		if !errors.As(err, &damaged) {
			return rec, err
		}
		note, err := t.store.setAside(damaged)
		if err != nil {
			return nil, err
		}
		t.res.Reasons = append(t.res.Reasons, note)
	}
}

// last is the last record of processes that share memory, of those that are good.
func (s *Store) last(ids []process.ID, good func(*Record) bool) (rec *Record, err error) {
	for _, id := range ids {
		r, err := s.Load(id)
		if err != nil {
			return nil, err
		}
		if r != nil && good(r) && (rec == nil || r.Time.After(rec.Time)) {
			rec = r
		}
	}
	return rec, nil
}

// stayed makes sure that the process that was asked for had the memory to the
// end: it is no failure of the change when others have it.
func (t *txn) stayed() error {
	if _, err := t.meet(); err != nil {
		return err
	}
	if t.p.ID != t.res.ID && !slices.Contains(t.rec.Sharing, t.res.ID) {
		return &Reason{Code: Gone, Detail: fmt.Sprintf("process %d, which shared its memory, has the change", t.p.Pid)}
	}
	return nil
}

// Do has workers serve the request, and returns the results in the order of its
// targets. Of targets that share memory the first is served, and all have its
// result. Events may be nil; the last one of each target has its result. When
// ctx ends, what only waits is given up, and its result is Interrupted.
func (c *Client) Do(ctx context.Context, req Request, events func(Event)) ([]Result, error) {
	leads := leaders(req.Pids)
	out := make([]Result, len(req.Pids))
	serve := func(which func(i int) bool) ([]Result, error) {
		part, at := req, []int(nil)
		part.Pids = nil
		for i := range req.Pids {
			if which(i) {
				part.Pids, at = append(part.Pids, req.Pids[i]), append(at, i)
			}
		}
		if len(at) == 0 {
			return nil, nil
		}
		rs, err := c.serve(ctx, part, events)
		if err == nil {
			for k, i := range at {
				out[i] = rs[k]
			}
		}
		return rs, err
	}
	if rs, err := serve(func(i int) bool { return leads[i] == i }); err != nil {
		return rs, err
	}
	apart := make(map[int]bool) // they did not share it to the end
	for i, lead := range leads {
		if lead == i {
			continue
		}
		r := out[lead]
		k := slices.IndexFunc(r.Sharing, func(id process.ID) bool { return id.Pid == req.Pids[i].Pid })
		if k < 0 {
			apart[i] = true
			continue
		}
		r.ID = r.Sharing[k]
		if out[i] = r; events != nil {
			events(Event{ID: r.ID, Program: r.Program, Patches: r.Patches, State: string(r.State), Result: &r})
		}
	}
	rs, err := serve(func(i int) bool { return apart[i] })
	if err != nil {
		return rs, err
	}
	return out, nil
}

// leaders are for each target the index of the one whose result it has: its own,
// or that of an earlier one with the same patches for the same memory.
func leaders(targets []Target) []int {
	type what struct {
		group   int
		patches string
	}
	pids := make([]int, len(targets))
	for i := range targets {
		pids[i] = targets[i].Pid
	}
	first := make(map[what]int)
	out := make([]int, len(targets))
	for i, group := range process.Together(pids) {
		w := what{group, strings.Join(targets[i].Patches, "\x00")}
		lead, ok := first[w]
		if out[i] = i; ok && pids[lead] != pids[i] {
			out[i] = lead
		} else if !ok {
			first[w] = i
		}
	}
	return out
}
