package process

import (
	"golang.org/x/sys/unix"
)

// restartable are the system calls that return EINTR after a stop, although
// no signal handler ran (signal(7), "Interruption of system calls and library
// functions by stop signals"), and that can be made again without harm. The
// value says whether the call has a signal mask of its own. For any other call
// a second try could hit something else: a descriptor that another thread has
// opened meanwhile, after close.
var restartable = map[uint64]bool{
	unix.SYS_EPOLL_WAIT:      false,
	unix.SYS_EPOLL_PWAIT:     true,
	unix.SYS_EPOLL_PWAIT2:    true,
	unix.SYS_SEMOP:           false,
	unix.SYS_SEMTIMEDOP:      false,
	unix.SYS_RT_SIGTIMEDWAIT: false,
	unix.SYS_IO_GETEVENTS:    false,
	unix.SYS_IO_PGETEVENTS:   true,
	unix.SYS_READ:            false, // a socket with SO_RCVTIMEO, as those that follow
	unix.SYS_READV:           false,
	unix.SYS_ACCEPT:          false,
	unix.SYS_ACCEPT4:         false,
	unix.SYS_RECVFROM:        false,
	unix.SYS_RECVMSG:         false,
	unix.SYS_RECVMMSG:        false,
	unix.SYS_WRITE:           false, // with SO_SNDTIMEO, when nothing was sent
	unix.SYS_WRITEV:          false,
	unix.SYS_SENDTO:          false,
	unix.SYS_SENDMSG:         false,
}

func errnoOf(r *Regs) unix.Errno {
	if v := int64(r.Rax); v < 0 && v > -4096 {
		return unix.Errno(-v)
	}
	return 0
}

// mend makes a thread that has just stopped forget it: a system call that would
// return EINTR will be made again. That is done at once, so that it holds even
// if the tracer dies.
func (t *Tracer) mend(th *Thread) {
	if th.signal != 0 && t.isIgnored(th.Tid, th.signal) {
		// A tracee gets signals that it ignores, and its system call is
		// interrupted by them; without a tracer neither would happen.
		th.signal, th.event = 0, true
	}
	if !th.event || int64(th.Regs.Orig_rax) < 0 || errnoOf(&th.Regs) != unix.EINTR {
		return
	}
	if _, ok := restartable[th.Regs.Orig_rax]; !ok || t.awaitsSignal(th, th.Regs.Orig_rax) {
		return
	}
	r := th.Regs
	r.Rax, r.Orig_rax, r.Rip = r.Orig_rax, ^uint64(0), r.Rip-2
	if setRegs(th.Tid, &r) == 0 {
		th.before, th.Regs, th.mended = th.Regs, r, true
	}
}

// unmend takes that back for a thread about to be resumed when a signal came
// while it stood: then EINTR is what the program waits for.
func (t *Tracer) unmend(th *Thread) {
	if th.mended && t.awaitsSignal(th, th.before.Orig_rax) {
		setRegs(th.Tid, &th.before)
	}
}

// awaitsSignal reports whether a signal is about to be delivered to a thread
// that is in the system call nr.
func (t *Tracer) awaitsSignal(th *Thread, nr uint64) bool {
	pending, e := pendingSignals(th.Tid)
	if e != 0 || pending == 0 {
		return e != 0
	}
	var blocked uint64
	// While a call's own mask is in force the kernel shows the other one.
	if !restartable[nr] && getMask(th.Tid, &blocked) != 0 {
		return true
	}
	for s := range 64 {
		if bit := uint64(1) << s; pending&bit != 0 && blocked&bit == 0 && !t.isIgnored(th.Tid, s+1) {
			return true
		}
	}
	return false
}

// isIgnored reports whether the process of a thread ignores a signal, by its wish
// or by default (signal(7), "Standard signals": Ign, and Cont for a running process).
func (t *Tracer) isIgnored(tid, sig int) bool {
	s := &t.signals
	if !s.known || t.p.witness != 0 {
		st, err := t.p.Status(tid)
		if err != nil {
			return false
		}
		s.ignored, s.caught, s.known = st.Ignored, st.Caught, true
	}
	bit := uint64(1) << (sig - 1)
	const byDefault = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1) | 1<<(unix.SIGCONT-1)
	return s.ignored&bit != 0 || byDefault&bit != 0 && s.caught&bit == 0
}
