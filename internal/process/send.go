package process

import (
	"fmt"
	"slices"
	"time"
)

// Errand is a system call that a thread was sent to make.
type Errand struct {
	Tid  int
	g    Gadgets
	base Addr // of the frame that brings it back
}

// Send has the thread tid make one system call and find back by itself, by the
// frame that a borrowed thread has for the case that its tracer dies. So it is
// stopped once and not four times. What the call returned is not known; look
// for its effect, and at Errand.Underway. ErrNoThread means that this thread has
// to be borrowed instead, or another one taken: what it waits for would not go
// on as it was, or its stack is none of the given ones (StacksIn), so that
// something else may lie where its frame would.
func (t *Tracer) Send(tid int, g Gadgets, stacks []Range, budget time.Duration, nr uintptr, args ...uint64) (e Errand, held time.Duration, err error) {
	st, err := t.p.Status(tid)
	if err != nil {
		return e, 0, err
	}
	if now, err := t.p.Stat(tid); err != nil || now.State == 'T' || st.Seccomp != 0 {
		return e, 0, ErrNoThread // a stopped thread would not come to it; a filter has to be suspended meanwhile
	}
	l := &loan{t: t, g: g, layout: xlayoutHere(), area: touchedPages(16 << 10), frame: touchedPages(20 << 10), below: touchedPages(20 << 10)}
	if err := t.StopOne(tid, budget); err != nil {
		return e, 0, err
	}
	l.th = &t.threads[0]
	const most = 20 << 10 // bytes of the frame, with what is left free
	sp := Addr(l.th.Regs.Rsp)
	if err = t.ours(tid); err == nil && !slices.ContainsFunc(stacks, func(r Range) bool { return r.Contains(sp-1) && r.Start+most <= sp }) {
		err = ErrNoThread
	}
	if err == nil {
		err = l.send(nr, args)
	}
	if err != nil {
		err = fmt.Errorf("send thread %d of process %d: %w", tid, t.p.Pid, err)
	}
	return Errand{tid, g, l.base}, t.Resume(), err
}

// StacksIn lists what may hold stacks and nothing else just below one: the
// first thread's, and anonymous memory that is neither the heap nor follows a
// mapped file, as the variables of a module do that are 0 at first.
func StacksIn(maps []Mapping) []Range {
	var out []Range
	for i, m := range maps {
		afterFile := i > 0 && maps[i-1].End == m.Start && maps[i-1].Inode != 0
		if m.Prot&(Read|Write|Shared) == Read|Write && m.Inode == 0 && m.Path != "[heap]" && !afterFile {
			out = append(out, m.Range)
		}
	}
	return out
}

func (l *loan) send(nr uintptr, args []uint64) error {
	// A call that goes on by restart_syscall(2) would begin anew. And one that a
	// signal is to end would not end when it comes while the thread is away: its
	// frame makes the call again.
	th := l.th
	if int64(th.Regs.Orig_rax) >= 0 && errnoOf(&th.Regs) == restartBlock || l.t.mayBeInterrupted(th) {
		return ErrNoThread
	}
	if err := l.begin(); err != nil {
		return err
	}
	if err := l.point(nr, args); err != nil {
		return err
	}
	return nil
}

// Underway reports whether the thread has still to come back.
func (e Errand) Underway(t *Tracer, budget time.Duration) (bool, error) {
	if err := t.StopOne(e.Tid, budget); err != nil {
		return false, err
	}
	r := t.threads[0].Regs
	t.Resume()
	const call, stub = 3, 16 // bytes, at most, of the two places
	sp, pc := Addr(r.Rsp), Addr(r.Rip)
	return (sp == e.base || sp == e.base+8) &&
		(pc >= e.g.syscall && pc < e.g.syscall+call || pc >= e.g.restorer && pc < e.g.restorer+stub), nil
}
