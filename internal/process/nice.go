package process

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// BeNice lets everything else on the machine go before this program, all of
// its threads and those to come: its work is not urgent, but for the moments
// in which it holds threads, and then it has real-time priority. Where no
// processor is idle it does not: beside many busy threads the work of a moment
// would take minutes, and what is outdated runs on meanwhile.
func BeNice() {
	const nice = 10
	if !idle() {
		return
	}
	onThreads(func(tid int) { _ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice) }) // lowering is always allowed
	// That is all among the tasks of one session; against those of others the
	// session's value counts (sched(7), "The autogroup feature").
	if sid, err := unix.Getsid(0); err == nil && sid == os.Getpid() {
		_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
	}
}

// idle reports whether there are processors enough for the threads that want
// one just now, the caller among them: proc_loadavg(5), fourth field.
func idle() bool {
	var l1, l5, l15 float64
	var running, all int
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	_, err = fmt.Sscanf(string(text), "%f %f %f %d/%d", &l1, &l5, &l15, &running, &all)
	return err == nil && running <= runtime.NumCPU()
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
