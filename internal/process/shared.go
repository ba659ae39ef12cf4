package process

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
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
// execute what is changed without being stopped for it. Else the error is a
// *SharedError. A child of vfork that comes later does no harm: the thread that
// waits for it does not stop (Tracer.Stop) before it has gone. Where the kernel
// has no kcmp(2), nothing is found.
func (p *Process) Alone() error {
	self, err := memoryOf(p.Pid)
	if err != nil {
		return fmt.Errorf("look for processes that share memory: %w", gone(err))
	}
	pids, err := p.cache.peers.of(self)
	if err != nil {
		return fmt.Errorf("look for processes that share memory: %w", err)
	}
	for _, pid := range pids {
		if pid != p.Pid && p.sharesMemory(pid) && !p.hasThread(pid) {
			return &SharedError{Pid: p.Pid, Other: pid, Name: NameOf(pid)}
		}
	}
	return nil
}

// memory is what processes with the same memory have in common, as long as
// none of them changes it by prctl(PR_SET_MM): their program, and where the
// first thread's stack began. After fork the child has it, too.
type memory struct{ dev, ino, stack uint64 }

func memoryOf(pid int) (memory, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	var exe unix.Stat_t
	if err := unix.Stat(dir+"/exe", &exe); err != nil {
		return memory{}, err
	}
	b, err := readName(dir + "/stat")
	if err != nil {
		return memory{}, err
	}
	st, err := parseStat(b)
	return memory{exe.Dev, exe.Ino, st.Stack}, err
}

// peers are all processes by what those that share memory have in common.
// Only a new process can share memory with another, so that it is enough to
// look at those that are new since the last time: the kernel gives pids in
// turn, and tells the last one (proc_loadavg(5)).
type peers struct {
	mu   sync.Mutex
	by   map[memory][]int
	read time.Time // all of them
	// last is the last pid of some time ago: a process is not to be seen at
	// once when it has one.
	last, next int
	marked     time.Time
}

// of lists the processes that may share that memory.
func (s *peers) of(m memory) ([]int, error) {
	const (
		stale  = 5 * time.Second        // long before pids come round, even of 32768
		unseen = 200 * time.Millisecond // how long a fork may take from its pid on
	)
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := readName("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	f := strings.Fields(string(b))
	last, err := strconv.Atoi(f[len(f)-1])
	if err != nil {
		return nil, fmt.Errorf("parse /proc/loadavg: %w", err)
	}
	now := time.Now()
	if now.Sub(s.read) > stale || last < s.last {
		if err := s.readAll(); err != nil {
			return nil, err
		}
		s.read, s.marked, s.last, s.next = now, now, last, last
	}
	for pid := s.last + 1; pid <= last; pid++ {
		s.add(pid)
	}
	if now.Sub(s.marked) > unseen {
		s.last, s.next, s.marked = s.next, last, now
	}
	return slices.Clone(s.by[m]), nil
}

func (s *peers) readAll() error {
	dir, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	s.by = make(map[memory][]int)
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			s.add(pid)
		}
	}
	return nil
}

func (s *peers) add(pid int) {
	if m, err := memoryOf(pid); err == nil && !slices.Contains(s.by[m], pid) {
		s.by[m] = append(s.by[m], pid)
	}
}

// sharesMemory compares address spaces with kcmp(2), KCMP_VM.
func (p *Process) sharesMemory(pid int) bool {
	const vm = 1
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(p.Pid), uintptr(pid), vm, 0, 0, 0)
	return e == 0 && r == 0
}
