package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// BeNice lets everything else on the machine go before this program, all of
// its threads and those to come: its work is not urgent, but for the moments
// in which it holds threads, and then it has real-time priority.
func BeNice() {
	const lowest, session = 19, 10
	onThreads(func(tid int) { _ = unix.Setpriority(unix.PRIO_PROCESS, tid, lowest) }) // lowering is always allowed
	// That is all among the tasks of one session; against those of others the
	// session's value counts (sched(7), "The autogroup feature"). It is not the
	// lowest: on a busy machine a patch would take minutes.
	if sid, err := unix.Getsid(0); err == nil && sid == os.Getpid() {
		_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(session)), 0)
	}
}

// KeepOff keeps this program, all of its threads, off the processor on which
// the process's main thread runs, where it may use another one, until Close:
// even with the lowest priority it would take the processor for a millisecond
// at a time.
func (p *Process) KeepOff() {
	k := &p.kept
	st, err := p.Stat(0)
	if err != nil || st.CPU < 0 || k.set && st.CPU == k.off || !k.set && unix.SchedGetaffinity(0, &k.all) != nil {
		return
	}
	k.off, k.set = st.CPU, true
	others := k.all
	if others.Clear(st.CPU); others.Count() > 0 {
		onThreads(func(tid int) { _ = unix.SchedSetaffinity(tid, &others) })
	}
}

// RunOn lets this program, all of its threads, run on these processors; none
// means that nothing changes.
func RunOn(cpus []int) {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if len(cpus) > 0 {
		onThreads(func(tid int) { _ = unix.SchedSetaffinity(tid, &set) })
	}
}

// CPUs are the processors on which this program might run before KeepOff.
func (p *Process) CPUs() []int {
	var out []int
	for c := range len(p.kept.all) * 64 {
		if p.kept.all.IsSet(c) {
			out = append(out, c)
		}
	}
	return out
}

// followOff does so again when the thread runs elsewhere by now.
func (p *Process) followOff() {
	if p.kept.set {
		p.KeepOff()
	}
}

// anywhere takes that back.
func (p *Process) anywhere() {
	if p.kept.set {
		onThreads(func(tid int) { _ = unix.SchedSetaffinity(tid, &p.kept.all) })
	}
}

// onThreads calls f with each thread of this program.
func onThreads(f func(tid int)) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			f(tid)
		}
	}
}
