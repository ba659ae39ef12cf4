package process

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Regs are the general registers of a stopped thread (struct user_regs_struct).
type Regs = unix.PtraceRegs

// PTRACE_EVENT_STOP, include/uapi/linux/ptrace.h; not in golang.org/x/sys.
const eventStop = 128

// rseqConfig is struct ptrace_rseq_configuration, Linux 5.13.
type rseqConfig struct {
	addr            uint64
	size, sig, f, _ uint32
}

// All of these are raw system calls: they neither allocate nor let the Go
// scheduler take the thread's processor away.

func ptrace(req, tid int, addr, data uintptr) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	return e
}

func getRegs(tid int, r *Regs) unix.Errno {
	return ptrace(unix.PTRACE_GETREGS, tid, 0, uintptr(unsafe.Pointer(r)))
}

func setRegs(tid int, r *Regs) unix.Errno {
	return ptrace(unix.PTRACE_SETREGS, tid, 0, uintptr(unsafe.Pointer(r)))
}

func getMask(tid int, m *uint64) unix.Errno {
	return ptrace(unix.PTRACE_GETSIGMASK, tid, 8, uintptr(unsafe.Pointer(m)))
}

func setMask(tid int, m uint64) unix.Errno {
	return ptrace(unix.PTRACE_SETSIGMASK, tid, 8, uintptr(unsafe.Pointer(&m)))
}

// getXState reads the FPU state in the layout of XSAVE (not compacted) and
// returns its length, bytes.
func getXState(tid int, b []byte) (int, unix.Errno) {
	v := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	const ntX86XState = 0x202
	e := ptrace(unix.PTRACE_GETREGSET, tid, ntX86XState, uintptr(unsafe.Pointer(&v)))
	return int(v.Len), e
}

// getRseq asks where the thread's restartable sequences are registered.
func getRseq(tid int, c *rseqConfig) unix.Errno {
	const ptraceGetRseqConfiguration = 0x420f
	return ptrace(ptraceGetRseqConfiguration, tid, unsafe.Sizeof(*c), uintptr(unsafe.Pointer(c)))
}

// waitTid waits for a change of a tracee. It returns 0 without one when a tick
// of the watchdog came first, or at once with nohang.
func waitTid(tid int, status *unix.WaitStatus, nohang bool) (int, unix.Errno) {
	opt := uintptr(unix.WALL)
	if nohang {
		opt |= unix.WNOHANG
	}
	var s uint32
	n, _, e := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(tid), uintptr(unsafe.Pointer(&s)), opt, 0, 0, 0)
	if e == unix.EINTR {
		return 0, 0
	}
	*status = unix.WaitStatus(s)
	return int(n), e
}

// watchdog bounds a wait: from an interval after start on it interrupts the
// thread that made it, again and again, so that a tick cannot get lost between
// two waits. Its signal is one that means nothing to the Go runtime.
type watchdog struct{ id int32 }

const tick = unix.SIGWINCH

func newWatchdog() *watchdog {
	setAction(tick, func(flags uintptr) uintptr { return flags &^ 0x10000000 }) // SA_RESTART
	// struct sigevent: value 8, signo 4, notify 4, tid 4; 64 bytes.
	ev := struct {
		value             uint64
		signo, notify, id int32
		_                 [11]int32
	}{signo: int32(tick), notify: 4, id: int32(unix.Gettid())} // SIGEV_THREAD_ID
	w := &watchdog{}
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&w.id))); e != 0 {
		return nil
	}
	return w
}

// start arms it; 0 stops it.
func (w *watchdog) start(after time.Duration) {
	spec := [2]unix.Timespec{unix.NsecToTimespec(int64(after)), unix.NsecToTimespec(int64(after))}
	unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(w.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

func (w *watchdog) close() {
	if w == nil {
		return
	}
	unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(w.id), 0, 0)
}

// nap sleeps without giving the processor back to the Go scheduler.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// now is CLOCK_MONOTONIC, for use inside a stop.
func now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

// realTime gives the calling thread real-time priority, or takes it away. Some
// machines forbid it (RT group scheduling); then it works without.
func realTime(on bool) {
	var param struct{ priority int32 }
	policy := 0 // SCHED_OTHER
	if on {
		policy, param.priority = 1, 1 // SCHED_FIFO
	}
	unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, uintptr(policy), uintptr(unsafe.Pointer(&param)))
}

// noStopSignals keeps the kernel from sending SIGCHLD for each stop of a
// tracee. It goes round os/signal, whose Ignore would make the kernel reap
// children and so break os/exec.
func noStopSignals() {
	setAction(unix.SIGCHLD, func(flags uintptr) uintptr { return flags | 1 }) // SA_NOCLDSTOP
}

// setAction changes the flags of a signal's action, whatever the handler.
func setAction(sig unix.Signal, change func(uintptr) uintptr) {
	var act struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), 8, 0, 0)
	if e != 0 || change(act.flags) == act.flags {
		return
	}
	act.flags = change(act.flags)
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
}
