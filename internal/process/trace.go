package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TracedError says that another tracer, such as a debugger, holds the process.
type TracedError struct {
	Pid    int // of the process
	Tracer int // its pid, 0 when not known
	Name   string
}

func (e *TracedError) Error() string {
	return fmt.Sprintf("process %d is already traced by %s (pid %d)", e.Pid, e.Name, e.Tracer)
}

// BusyError says that a thread did not stop in time, as one in an
// uninterruptible wait does not.
type BusyError struct {
	Pid   int
	Tid   int
	Name  string
	State byte
}

func (e *BusyError) Error() string {
	why := ""
	if e.State == 'D' {
		why = ", as in a wait for a device or for a child of vfork"
	}
	return fmt.Sprintf("thread %d (%s) did not stop: state %c%s", e.Tid, e.Name, e.State, why)
}

// Thread is a thread that is held in a stop.
type Thread struct {
	Tid    int
	Regs   Regs
	signal int  // that it is about to receive; it is passed on when it resumes
	event  bool // it stands in PTRACE_EVENT_STOP (a trap or a group stop)
	held   bool
	dead   bool
}

// Tracer stops threads of one process. Between Stop and Resume nothing else
// runs in the tracer, and it must not allocate more than a little.
type Tracer struct {
	p       *Process
	threads []Thread
	tids    []int
	index   map[int]int  // tid to index in threads
	step    func(string) // tests die here
	begun   time.Duration
	dog     *watchdog
	home    unix.CPUSet // where the tracer may run
	away    bool        // it sits by a thread
	stuck   bool        // something may be traced yet that could not be let go
	signals struct {
		known           bool
		ignored, caught uint64
	}
}

// Trace calls fn on an operating-system thread of its own, the same each time
// for the processes of one cache; all ptrace calls must come from it. The garbage
// collector is off meanwhile. Whatever fn leaves stopped is resumed, and a thread
// that would not stop is let go at its end. Only one Trace may run at a time in a
// program.
func (p *Process) Trace(fn func(*Tracer) error) error {
	defer Calm()()
	p.followOff()
	return p.cache.tracing.run(func(dog *watchdog) (stuck bool, err error) {
		if dog == nil {
			return true, fmt.Errorf("trace process %d: no timer", p.Pid)
		}
		t := &Tracer{p: p, index: make(map[int]int), dog: dog}
		err = guarded(fn, t)
		t.Resume()
		return t.stuck, err
	})
}

// tracing is the thread that traces, started when it is needed first.
type tracing struct {
	mu   sync.Mutex
	work chan func(*watchdog)
}

// run calls fn on the thread. Where it says that something is stuck, the thread
// ends, and with it all tracing.
func (s *tracing) run(fn func(*watchdog) (stuck bool, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work == nil {
		work := make(chan func(*watchdog))
		s.work = work
		go onThread(func() {
			noStopSignals()
			dog := newWatchdog()
			defer dog.close()
			for f := range work {
				f(dog)
			}
		})
	}
	type result struct {
		stuck bool
		err   error
		tid   int
	}
	done := make(chan result)
	s.work <- func(dog *watchdog) {
		stuck, err := fn(dog)
		done <- result{stuck, err, unix.Gettid()}
	}
	r := <-done
	if r.stuck {
		s.end()
		// Until it has ended, what it traced can be traced by no other.
		for range 1000 {
			if unix.Access(fmt.Sprintf("/proc/self/task/%d", r.tid), unix.F_OK) != nil {
				break
			}
			nap(time.Millisecond)
		}
	}
	return r.err
}

// end lets the thread end.
func (s *tracing) end() {
	if s.work != nil {
		close(s.work)
		s.work = nil
	}
}

// calm counts who wants the garbage collector to be off.
var calm struct {
	sync.Mutex
	wanted, percent int
}

// Calm keeps the garbage collector from running by itself until end is called.
// Where it is kept away already, that costs nothing: else it stops the world.
func Calm() (end func()) {
	calm.Lock()
	defer calm.Unlock()
	if calm.wanted++; calm.wanted == 1 {
		calm.percent = debug.SetGCPercent(-1)
	}
	return func() {
		calm.Lock()
		defer calm.Unlock()
		if calm.wanted--; calm.wanted == 0 {
			debug.SetGCPercent(calm.percent)
		}
	}
}

// guarded turns a panic into an error: a mistake of ours must not keep what was
// begun in a living process from being undone.
func guarded(fn func(*Tracer) error, t *Tracer) (err error) {
	defer func() {
		if r := recover(); r != nil {
			t.stuck = true
			err = fmt.Errorf("trace process %d: panic: %v\n%s", t.p.Pid, r, debug.Stack())
		}
	}()
	return fn(t)
}

// onThread runs fn on a thread that ends with it, and any tracing with that.
// The main thread cannot end, so it is left alone.
func onThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		fn()
		return
	}
	ready := make(chan struct{})
	go func() { onThread(fn); close(ready) }()
	<-ready
	runtime.UnlockOSThread()
}

// Process is the process that is traced.
func (t *Tracer) Process() *Process { return t.p }

// Threads are the threads that are held.
func (t *Tracer) Threads() []Thread { return t.threads }

// Held is how long the threads have been held, from before the first interrupt.
func (t *Tracer) Held() time.Duration { return now() - t.begun }

// seize begins to trace tid; it keeps running. ok is false when the thread is
// gone or about to be.
func (t *Tracer) seize(tid int) (ok bool, err error) {
	for try := 0; ; try++ {
		switch e := ptrace(unix.PTRACE_SEIZE, tid, 0, unix.PTRACE_O_TRACESYSGOOD); e {
		case 0:
			if !t.p.hasThread(tid) { // another process has this tid now
				t.release(tid)
				return false, nil
			}
			return true, nil
		case unix.ESRCH:
			return false, nil
		default:
			st, serr := t.p.Status(tid)
			s, err := t.p.Stat(tid)
			switch {
			case serr != nil || err != nil || s.State == 'Z' || s.State == 'X':
				return false, nil
			case st.Tracer == unix.Gettid():
				return true, nil // release gave up on it
			case st.Tracer == 0:
				err := fmt.Errorf("seize thread %d of process %d: %w", tid, st.Tgid, e)
				if st.Tgid != t.p.Pid {
					err = &SharedError{t.p.Pid, st.Tgid, NameOf(st.Tgid), err}
				}
				return false, err
			case try == 1000 || unix.Access(fmt.Sprintf("/proc/self/task/%d", st.Tracer), unix.F_OK) != nil:
				return false, &TracedError{Pid: st.Tgid, Tracer: st.Tracer, Name: NameOf(st.Tracer)}
			}
			nap(time.Millisecond) // until the thread of an earlier Trace has ended
		}
	}
}

// release stops tracing a thread that was seized and may be running.
func (t *Tracer) release(tid int) {
	th := Thread{Tid: tid}
	ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0)
	for range 1000 {
		if t.poll(&th, true) {
			t.letGo(&th)
			return
		}
		nap(20 * time.Microsecond)
	}
	t.stuck = true // it is let go when this thread ends
}

// letGo resumes a held thread as if nothing had been.
func (t *Tracer) letGo(th *Thread) {
	if th.held {
		ptrace(unix.PTRACE_DETACH, th.Tid, 0, uintptr(th.signal))
		th.held, th.dead = false, true
	}
}

// watch is how often a wait is looked at that takes long.
const watch = 2 * time.Millisecond

// Stop stops every thread. When they have not all stopped within budget, those
// that did are resumed and the error is a *BusyError. A process that is stopped
// by a signal stays stopped when it is resumed.
func (t *Tracer) Stop(budget time.Duration) error {
	t.reset()
	if err := t.p.Meet(); err != nil {
		return err
	}
	tids, err := t.p.appendTids(t.tids[:0])
	if err != nil {
		return err
	}
	t.tids = tids
	if cap(t.threads) < 2*len(tids) {
		t.threads = make([]Thread, 0, 2*len(tids)+16)
	}
	if err = t.stopAll(tids, budget); err == nil {
		err = t.dropLeft()
	}
	if err != nil {
		t.Resume()
		return err
	}
	return nil
}

func (t *Tracer) reset() {
	t.threads = t.threads[:0]
	clear(t.index)
	t.signals.known = false
	t.begun = now()
}

// stopAll holds the listed threads and whatever they start meanwhile.
func (t *Tracer) stopAll(tids []int, budget time.Duration) error {
	first := true
	for round := 0; ; round++ {
		from := len(t.threads)
		if err := t.seizeNew(tids); err != nil {
			return err
		}
		if first {
			t.approach(t.p.Pid)
			first = false
		}
		for i := from; i < len(t.threads); i++ {
			if th := &t.threads[i]; ptrace(unix.PTRACE_INTERRUPT, th.Tid, 0, 0) != 0 {
				th.dead = true
			}
		}
		if err := t.await(from, budget); err != nil {
			return err
		}
		n, err := t.p.threadCount()
		if err != nil {
			return err
		}
		all := n == t.alive()
		if !all {
			if t.Held() > budget {
				return t.unsettled()
			}
			if tids, err = t.p.appendTids(t.tids[:0]); err != nil {
				return err
			}
			t.tids = tids
			all = round > 0 && len(t.threads) == from && t.complete(tids)
		}
		if !all {
			continue
		}
		// What shares the memory now, one of these threads has started.
		switch more, err := t.p.meet(true); {
		case errors.Is(err, errHeld), err == nil && more && t.Held() > budget:
			return t.unsettled()
		case err != nil || !more:
			return err
		}
		if tids, err = t.p.appendTids(t.tids[:0]); err != nil {
			return err
		}
		t.tids = tids
	}
}

// unsettled says that new threads come faster than they are stopped.
func (t *Tracer) unsettled() error {
	return &BusyError{Pid: t.p.Pid, Tid: t.p.Pid, Name: NameOf(t.p.Pid), State: 'N'}
}

// dropLeft lets go of threads whose process has executed another program. What
// is left holds the memory.
func (t *Tracer) dropLeft() error {
	if t.p.witness != 0 {
		for i := range t.threads {
			if th := &t.threads[i]; th.held && !t.p.has(th.Tid) {
				t.letGo(th)
			}
		}
		if err := t.p.part(); err != nil {
			return err
		}
	}
	if t.alive() == 0 || !t.p.hasMemory(Addr(t.threads[0].Regs.Rip)) {
		return ErrExited
	}
	return nil
}

// ours makes sure that a held thread has the memory: another process may share
// it while this one's has executed a program.
func (t *Tracer) ours(tid int) error {
	if _, err := t.p.meet(true); err != nil {
		return err
	}
	if !t.p.has(tid) {
		return fmt.Errorf("thread %d: %w", tid, ErrExited)
	}
	return nil
}

// complete reports whether all the listed threads are known; threads that are
// dead but not reaped (a leader that has exited) stay in the list.
func (t *Tracer) complete(tids []int) bool {
	for _, tid := range tids {
		if _, ok := t.index[tid]; !ok {
			return false
		}
	}
	return true
}

func (t *Tracer) alive() int {
	n := 0
	for i := range t.threads {
		if t.threads[i].held {
			n++
		}
	}
	return n
}

// seizeNew seizes the listed threads that are not known yet.
func (t *Tracer) seizeNew(tids []int) error {
	for _, tid := range tids {
		if _, ok := t.index[tid]; ok {
			continue
		}
		ok, err := t.seize(tid)
		if err != nil {
			return err
		}
		t.index[tid] = len(t.threads)
		t.threads = append(t.threads, Thread{Tid: tid, dead: !ok})
	}
	return nil
}

// await waits until the threads from the given one on have stopped, and reads
// their registers. A thread in an uninterruptible wait must not hold up the
// others beyond the budget.
func (t *Tracer) await(from int, budget time.Duration) error {
	for i := from; i < len(t.threads); {
		th := &t.threads[i]
		if th.held || th.dead || t.poll(th, false) {
			i++
			continue
		}
		t.dropZombies(from)
		if th.dead {
			continue
		}
		// A thread that waits for its child of vfork stops only when the child,
		// which is held here, has gone on.
		state := t.state(th.Tid)
		if t.Held() > budget || state == 'D' && len(t.p.others) > 0 {
			return &BusyError{Pid: t.p.OwnerOf(th.Tid), Tid: th.Tid, Name: NameOf(th.Tid), State: state}
		}
	}
	return nil
}

func (t *Tracer) state(tid int) byte {
	st, err := t.p.Stat(tid)
	if err != nil {
		return 'X'
	}
	return st.State
}

// poll looks whether a thread has stopped or ended.
func (t *Tracer) poll(th *Thread, nohang bool) bool {
	var st unix.WaitStatus
	n, e := waitTid(th.Tid, &st, nohang)
	switch {
	case n == 0 && e == 0:
		return false
	case e != 0 || !st.Stopped():
		th.dead = true
	default:
		th.event = int(st)>>16 == eventStop
		th.signal = 0
		if int(st)>>16 == 0 {
			th.signal = int(st.StopSignal())
		}
		th.held = getRegs(th.Tid, &th.Regs) == 0
		th.dead = !th.held
		t.mend(th)
	}
	return true
}

// dropZombies forgets threads that have ended: a leader that exits before the
// other threads is not reported to its tracer until they end too.
func (t *Tracer) dropZombies(from int) {
	for i := from; i < len(t.threads); i++ {
		th := &t.threads[i]
		if th.held || th.dead {
			continue
		}
		if st, err := t.p.Stat(th.Tid); err != nil || st.State == 'Z' || st.State == 'X' {
			th.dead = true
		}
	}
}

// StopOne stops a single thread; the others keep running. Threads then holds
// just this one. The error is ErrExited when the thread is gone.
func (t *Tracer) StopOne(tid int, budget time.Duration) error {
	t.reset()
	if cap(t.threads) == 0 {
		t.threads = make([]Thread, 0, 16)
	}
	if err := t.seizeNew([]int{tid}); err != nil {
		t.Resume()
		return err
	}
	if t.threads[0].dead {
		return fmt.Errorf("stop thread %d: %w", tid, ErrExited)
	}
	t.approach(tid)
	ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0)
	if err := t.await(0, budget); err != nil {
		t.Resume()
		return err
	}
	if !t.threads[0].held {
		t.Resume()
		return fmt.Errorf("stop thread %d: %w", tid, ErrExited)
	}
	return nil
}

// approach is what comes right before threads are interrupted.
func (t *Tracer) approach(tid int) {
	realTime(true) // before it is on the thread's processor, where it must not wait
	t.dog.start(watch)
	t.sitBy(tid)
	t.begun = now()
}

// sitBy moves the tracer to the processor of the thread that it is about to
// stop: handing over on one processor takes some microseconds, waking another
// one tens of them, most of all in a virtual machine. Where there are other
// threads, nothing stands still meanwhile, and they would be in the way. Where
// nobody asked to keep off, moving costs more than it spares.
func (t *Tracer) sitBy(tid int) {
	if !t.p.kept.set {
		return
	}
	if n, err := t.p.threadCount(); err != nil || n != 1 {
		return
	}
	st, err := t.p.Stat(tid)
	if err != nil || st.CPU < 0 || unix.SchedGetaffinity(0, &t.home) != nil {
		return
	}
	var there unix.CPUSet
	there.Set(st.CPU)
	t.away = unix.SchedSetaffinity(0, &there) == nil
}

// leave moves the tracer off the processor of the thread that it sat by: with
// real-time priority, which it has yet, it would keep the thread from running.
func (t *Tracer) leave() {
	var cpu uint32
	_, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	if others := t.home; e == 0 {
		others.Clear(int(cpu))
		if others.Count() > 0 {
			_ = unix.SchedSetaffinity(0, &others)
		}
	}
	_ = unix.SchedSetaffinity(0, &t.home) // it was allowed before
	t.away = false
}

// Resume lets every held thread go on where it was, and returns how long they
// were held, from before the first interrupt to after the last resume.
func (t *Tracer) Resume() time.Duration {
	if len(t.threads) == 0 {
		return 0
	}
	for i := range t.threads {
		t.letGo(&t.threads[i])
	}
	held := now() - t.begun
	if t.away {
		t.leave()
	}
	t.dog.start(0)
	realTime(false)
	for i := range t.threads {
		if th := &t.threads[i]; !th.dead {
			t.release(th.Tid) // seized, but it never came to a stop
		}
	}
	t.threads = t.threads[:0]
	return held
}
