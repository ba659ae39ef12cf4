package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

const anonymous = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE

// remoteCall is a system call to be made in the process: one that changes what
// is mapped at r.
type remoteCall struct {
	what string
	nr   uintptr
	args []uint64
	want uint64
	r    process.Range
}

func mmap(what string, r process.Range, prot, flags uint64) remoteCall {
	return remoteCall{
		what: fmt.Sprintf("map %s at %v", what, r.Start), nr: unix.SYS_MMAP, want: uint64(r.Start), r: r,
		args: []uint64{uint64(r.Start), uint64(r.End - r.Start), prot, anonymous | flags, ^uint64(0), 0},
	}
}

func munmap(r process.Range) remoteCall {
	return remoteCall{what: "unmap", nr: unix.SYS_MUNMAP, r: r, args: []uint64{uint64(r.Start), uint64(r.End - r.Start)}}
}

func protOf(p patch.Prot) uint64 {
	switch p {
	case patch.ReadExec:
		return unix.PROT_READ | unix.PROT_EXEC
	case patch.ReadWrite:
		return unix.PROT_READ | unix.PROT_WRITE
	}
	return unix.PROT_READ
}

// done reports whether the mappings are as the call leaves them.
func (c *remoteCall) done(maps []process.Mapping) bool {
	i := slices.IndexFunc(maps, func(m process.Mapping) bool { return m.End > c.r.Start })
	if i < 0 || maps[i].Start >= c.r.End {
		return c.nr == unix.SYS_MUNMAP
	}
	if c.nr == unix.SYS_MUNMAP {
		return false
	}
	m := &maps[i]
	if c.args[3]&unix.MAP_FIXED_NOREPLACE == unix.MAP_FIXED_NOREPLACE && m.Range != c.r {
		return false // the program's own
	}
	prot := uint64(0)
	for bit, p := range map[process.Prot]uint64{process.Read: unix.PROT_READ, process.Write: unix.PROT_WRITE, process.Exec: unix.PROT_EXEC} {
		if m.Prot&bit != 0 {
			prot |= p
		}
	}
	return m.Start <= c.r.Start && m.End >= c.r.End && m.Inode == 0 && m.Prot&process.Shared == 0 && prot == c.args[2]
}

// remote makes system calls in threads of the process, in their order, and
// returns how many it made. There is a stop for each, and in it a thread is
// sent, which holds it for the shortest time; where that does not do, or fails,
// it is borrowed, which tells why. In a crowd a thread is borrowed for all of
// them: that is less work in sum.
func (t *txn) remote(calls ...remoteCall) (made int, err error) {
	if t.crowd {
		return t.borrow(calls)
	}
	for i := range calls {
		sent, err := false, error(nil)
		if !t.unsent { // what its threads wait for cannot be interrupted so
			sent, err = t.send(&calls[i])
			t.unsent = !sent
		}
		if err == nil && !sent {
			_, err = t.borrow(calls[i : i+1])
		}
		if err != nil {
			return i, err
		}
	}
	return len(calls), nil
}

// send has a thread make the call, and reports whether it was made. When it was
// not, no thread is on the way to it any more.
func (t *txn) send(c *remoteCall) (made bool, err error) {
	tid, err := t.idle()
	if err != nil {
		return false, err
	}
	stacks := process.StacksIn(t.maps)
	var e process.Errand
	var held time.Duration
	err = t.p.Trace(func(tr *process.Tracer) (err error) {
		e, held, err = tr.Send(tid, t.gadgets, stacks, 10*t.opts.Budget, c.nr, c.args...)
		return err
	})
	t.res.Prepare = max(t.res.Prepare, held.Microseconds())
	if err != nil {
		if errors.As(err, new(*process.TracedError)) {
			return false, err
		}
		return false, nil
	}
	end := time.Now().Add(t.opts.Deadline)
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		t.sleep(wait)
		maps, err := t.p.Maps()
		if err != nil {
			return false, err
		}
		if c.done(maps) {
			return true, nil
		}
		var underway bool
		err = t.p.Trace(func(tr *process.Tracer) (err error) {
			underway, err = e.Underway(tr, 10*t.opts.Budget)
			return err
		})
		switch {
		case err != nil && !t.p.Alive():
			return false, process.ErrExited
		case errors.Is(err, process.ErrExited): // the thread alone
			return false, nil
		case err == nil && !underway && c.nr == unix.SYS_MUNMAP:
			return true, nil // the program may have mapped something there since
		case err == nil && !underway: // it may have come to it since the maps were read
			if maps, err = t.p.Maps(); err != nil {
				return false, err
			}
			return c.done(maps), nil
		case time.Now().After(end):
			return false, &Reason{Code: ThreadBusy, Pid: t.p.OwnerOf(e.Tid), Tid: e.Tid, Thread: process.NameOf(e.Tid), Detail: c.what + ": it does not come to it"}
		}
	}
}

// hands are the threads that can make calls: where memory is shared, not those
// of a process that somebody else traces.
func (t *txn) hands() ([]int, error) {
	tids, err := t.p.Tids()
	if err != nil || t.p.Sharing() == nil {
		return tids, err
	}
	free := slices.DeleteFunc(slices.Clone(tids), func(tid int) bool {
		st, err := t.p.Status(tid)
		return err != nil || st.Tracer != 0
	})
	if len(free) == 0 {
		return tids, nil
	}
	return free, nil
}

// idle picks the thread that the process misses least: one that sleeps, of the first few.
func (t *txn) idle() (int, error) {
	const few = 8
	tids, err := t.hands()
	if err != nil {
		return 0, err
	}
	for _, tid := range tids[:min(few, len(tids))] {
		if st, err := t.p.Stat(tid); err == nil && st.State == 'S' {
			return tid, nil
		}
	}
	return tids[0], nil
}

// borrow has a thread make the calls while it is held from beginning to end,
// and returns how many it made.
func (t *txn) borrow(calls []remoteCall) (made int, err error) {
	err = t.borrowed(func(call process.Call) error {
		for ; made < len(calls); made++ {
			c := &calls[made]
			got, err := call(c.nr, c.args...)
			if err == nil && got != c.want {
				err = unix.EEXIST
			}
			if err == nil {
				continue
			}
			err = &kernelError{Reason{Code: Kernel, Detail: fmt.Sprintf("%s: %v", c.what, err)}, err}
			if errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("%w: %w", errTaken, err)
			}
			return err
		}
		return nil
	})
	return made, err
}

// kernelError is a reason with the error that it came from.
type kernelError struct {
	reason Reason
	err    error
}

func (e *kernelError) Error() string   { return e.reason.Error() }
func (e *kernelError) Unwrap() []error { return []error{&e.reason, e.err} }

// borrowed has fn make system calls in a thread, all in one stop. It is called
// again only if it has made none.
func (t *txn) borrowed(fn func(process.Call) error) error {
	last := process.ErrNoThread
	for try := range 40 {
		tids, err := t.hands()
		if err != nil {
			return err
		}
		var made bool
		var held time.Duration
		err = t.p.Trace(func(tr *process.Tracer) (err error) {
			held, err = tr.Borrow(tids[try%len(tids)], t.gadgets, 10*t.opts.Budget, func(call process.Call) error {
				made = true
				return fn(call)
			})
			return err
		})
		t.res.Prepare = max(t.res.Prepare, held.Microseconds())
		if err == nil || made || errors.As(err, new(*process.TracedError)) {
			return err
		}
		if !t.p.Alive() {
			return process.ErrExited
		}
		last = err
		t.sleep(time.Duration(try) * time.Millisecond)
	}
	return &Reason{Code: NoThread, Detail: last.Error()}
}
