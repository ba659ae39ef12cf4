package process

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// SharedError says that another process has the same memory: a child of
// clone(2) with CLONE_VM but without CLONE_THREAD, or of vfork(2).
type SharedError struct {
	Pid   int
	Other int
	Name  string // of the other
}

func (e *SharedError) Error() string {
	return fmt.Sprintf("process %d (%s) shares the memory of process %d", e.Other, e.Name, e.Pid)
}

// Alone makes sure that no other process has the same memory: its threads would
// execute what is changed without being stopped for it. It waits for those it
// finds to go, as a child of vfork does with execve, and gives up with a
// *SharedError. A child of vfork that comes later does no harm: the thread that
// waits for it does not stop (Tracer.Stop) before it has gone. Where the kernel
// has no kcmp(2), nothing is found.
func (p *Process) Alone(patience time.Duration) error {
	pids, err := p.sharers()
	if err != nil {
		return err
	}
	end := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		pids = slices.DeleteFunc(pids, func(pid int) bool { return !p.sharesMemory(pid) })
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return &SharedError{Pid: p.Pid, Other: pids[0], Name: NameOf(pids[0])}
		}
		time.Sleep(wait)
	}
}

// sharers are the processes of the same program with the same memory.
func (p *Process) sharers() ([]int, error) {
	var own unix.Stat_t
	if err := unix.Fstatat(p.dir, "exe", &own, 0); err != nil {
		return nil, fmt.Errorf("look for processes that share memory: %w", gone(err))
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes that share memory: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("look for processes that share memory: %w", err)
	}
	var out []int
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || pid == p.Pid {
			continue
		}
		var st unix.Stat_t
		if unix.Stat("/proc/"+n+"/exe", &st) == nil && st.Dev == own.Dev && st.Ino == own.Ino && p.sharesMemory(pid) {
			out = append(out, pid)
		}
	}
	return out, nil
}

// sharesMemory compares address spaces with kcmp(2), KCMP_VM.
func (p *Process) sharesMemory(pid int) bool {
	const vm = 1
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(p.Pid), uintptr(pid), vm, 0, 0, 0)
	return e == 0 && r == 0
}
