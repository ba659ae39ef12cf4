package process

import (
	"golang.org/x/sys/unix"
)

// restartable are the system calls that return EINTR after a stop, although
// no signal handler ran (signal(7), "Interruption of system calls and library
// functions by stop signals"), and that can be made again without harm. For any
// other call a second try could hit something else: a descriptor that another
// thread has opened meanwhile, after close.
var restartable = map[uint64]bool{
	unix.SYS_EPOLL_WAIT:      true,
	unix.SYS_EPOLL_PWAIT:     true,
	unix.SYS_EPOLL_PWAIT2:    true,
	unix.SYS_SEMOP:           true,
	unix.SYS_SEMTIMEDOP:      true,
	unix.SYS_RT_SIGTIMEDWAIT: true,
	unix.SYS_IO_GETEVENTS:    true,
	unix.SYS_IO_PGETEVENTS:   true,
	unix.SYS_IO_URING_ENTER:  true, // nothing was submitted
	unix.SYS_READ:            true, // a socket with SO_RCVTIMEO, as those that follow
	unix.SYS_READV:           true,
	unix.SYS_ACCEPT:          true,
	unix.SYS_ACCEPT4:         true,
	unix.SYS_RECVFROM:        true,
	unix.SYS_RECVMSG:         true,
	unix.SYS_RECVMMSG:        true,
	unix.SYS_SPLICE:          true,
	unix.SYS_TEE:             true,
	unix.SYS_WRITE:           true, // with SO_SNDTIMEO, when nothing was sent
	unix.SYS_WRITEV:          true,
	unix.SYS_SENDTO:          true,
	unix.SYS_SENDMSG:         true,
	unix.SYS_SENDMMSG:        true,
	unix.SYS_SENDFILE:        true,
	unix.SYS_CONNECT:         true, // goes on waiting for the connection that it began
}

// Errors that never leave the kernel (include/linux/errno.h): on its way back
// to the program it makes the call again, unless it runs a signal handler and the
// error says that the call is to return EINTR then.
const (
	restartSys    = unix.Errno(512)
	restartNoIntr = unix.Errno(513)
	restartNoHand = unix.Errno(514)
	restartBlock  = unix.Errno(516)
)

func errnoOf(r *Regs) unix.Errno {
	if v := int64(r.Rax); v < 0 && v > -4096 {
		return unix.Errno(-v)
	}
	return 0
}

// mend makes a thread that has just stopped forget it: a system call that would
// return EINTR is left to the kernel to make again, as it does with others, or
// to return EINTR from when a signal has come for the thread, until the moment
// when it goes on. That holds even if the tracer dies.
func (t *Tracer) mend(th *Thread) {
	if th.signal != 0 && t.isIgnored(th.Tid, th.signal) {
		// A tracee gets signals that it ignores, and its system call is
		// interrupted by them; without a tracer neither would happen.
		th.signal, th.event = 0, true
	}
	if !th.event || int64(th.Regs.Orig_rax) < 0 || errnoOf(&th.Regs) != unix.EINTR || !restartable[th.Regs.Orig_rax] {
		return
	}
	r := th.Regs
	r.Rax = ^uint64(restartNoHand) + 1
	if setRegs(th.Tid, &r) == 0 {
		th.Regs = r
	}
}

// mayBeInterrupted reports whether a signal handler could run in a thread that
// is in a system call, and end the call. The C library's own two do not: one
// ends the thread, and after the other the call is made again.
func (t *Tracer) mayBeInterrupted(th *Thread) bool {
	const own = 1<<31 | 1<<32 // SIGCANCEL and SIGSETXID, nptl(7)
	if int64(th.Regs.Orig_rax) < 0 {
		return false
	}
	t.isIgnored(th.Tid, int(unix.SIGCHLD)) // reads what is caught
	if !t.signals.known {
		return true
	}
	// While a call's own mask is in force the kernel shows the other one. What that
	// blocks waits until the call is made again, and ends it then.
	var blocked uint64
	if getMask(th.Tid, &blocked) != 0 {
		return true
	}
	return t.signals.caught&^own&^blocked != 0
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
