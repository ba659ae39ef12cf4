package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is what processes with the same memory have in common: the file that
// they execute.
type program struct {
	major, minor uint32
	inode        uint64
}

// programOf reads it below /proc/PID, or of one thread. It does not ask the file
// system, which may be one in user space that never answers.
func programOf(dir string) (program, error) {
	var exe unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir+"/exe", unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &exe)
	return program{exe.Dev_major, exe.Dev_minor, exe.Ino}, err
}

// peers are all processes by their programs.
// Only a new process can share memory with another, so that it is enough to
// look at those that are new since the last time: the kernel gives pids in
// turn, and tells the last one (proc_loadavg(5)).
type peers struct {
	mu   sync.Mutex
	by   map[program]*alike
	read time.Time // all of them
	// last is the last pid of some time ago: a process is not to be seen at
	// once when it has one. Those seen since are in seen.
	last, next int
	marked     time.Time
	seen       map[int]bool
	hidden     []int // of which the program is not ours to know
}

// errHeld says that there is too much to look at while threads are held: the
// pids have come round, or nobody has looked yet.
var errHeld = errors.New("all processes have to be looked at")

// of lists the threads that may be of processes which share memory with pid, a
// process of the program, one of each, and the processes of which that is not
// known. While threads are held it does little.
func (s *peers) of(m program, pid int, held bool) (tids []int, hidden hidden, err error) {
	const (
		stale  = 5 * time.Second        // long before pids come round, even of 32768
		unseen = 200 * time.Millisecond // how long a fork may take from its pid on
	)
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := lastPid()
	if err != nil {
		return nil, hidden, err
	}
	now := time.Now()
	if s.by == nil || last < s.last || now.Sub(s.read) > stale && !held {
		if held {
			return nil, hidden, errHeld
		}
		if err := s.readAll(); err != nil {
			return nil, hidden, err
		}
		maps.DeleteFunc(s.seen, func(pid int, _ bool) bool { return pid <= last })
		s.read, s.marked, s.last, s.next = now, now, last, last
	}
	for pid := s.last + 1; pid <= last; pid++ {
		s.add(pid)
	}
	if now.Sub(s.marked) > unseen {
		for pid := s.last + 1; pid <= s.next; pid++ {
			delete(s.seen, pid)
		}
		s.last, s.next, s.marked = s.next, last, now
	}
	hidden.pids, hidden.read = s.hidden, s.read
	if a := s.by[m]; a != nil {
		tids = a.with(pid, held)
	}
	return tids, hidden, nil
}

// hidden are processes that may not be looked at, in the order in which they
// were found since all were read.
type hidden struct {
	pids []int
	read time.Time
}

// loadavg is /proc/loadavg: opened once, since it is read in every stop.
var loadavg = sync.OnceValues(func() (int, error) {
	return unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
})

// lastPid is the pid that was given last.
func lastPid() (int, error) {
	fd, err := loadavg()
	if err != nil {
		return 0, fmt.Errorf("open /proc/loadavg: %w", err)
	}
	var text [128]byte
	n, _, e := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)), 0, 0, 0)
	if e != 0 {
		return 0, fmt.Errorf("read /proc/loadavg: %w", e)
	}
	b := text[:n]
	last, err := strconv.Atoi(strings.TrimSpace(string(b[1+strings.LastIndexByte(string(b), ' '):])))
	if err != nil {
		return 0, fmt.Errorf("parse /proc/loadavg: %w", err)
	}
	return last, nil
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
	s.by, s.seen, s.hidden = make(map[program]*alike), make(map[int]bool), nil
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			s.add(pid)
		}
	}
	return nil
}

func (s *peers) add(pid int) {
	if s.seen[pid] {
		return
	}
	dir, tid := "/proc/"+strconv.Itoa(pid), pid
	m, err := programOf(dir)
	var task unix.Stat_t
	if err != nil && unix.Stat(dir+"/task", &task) == nil && task.Nlink > 3 { // its first thread has ended, but not the others
		threads, _ := os.ReadDir(dir + "/task")
		for _, t := range threads {
			if m, err = programOf(dir + "/task/" + t.Name()); err == nil {
				tid, err = strconv.Atoi(t.Name())
				break
			}
		}
	}
	if errors.Is(err, unix.EACCES) {
		s.seen[pid], s.hidden = true, append(s.hidden, pid)
	}
	if err != nil {
		return
	}
	a := s.by[m]
	if a == nil {
		a = &alike{}
		s.by[m] = a
	}
	if s.seen[pid] = true; !slices.Contains(a.tids[a.sorted:], tid) {
		a.tids = append(a.tids, tid)
	}
}

// alike are processes of one program, each by a thread of it. Those that share
// memory are neighbours in the order that kcmp(2) has for address spaces.
type alike struct {
	tids   []int
	sorted int           // how many of them were sorted
	place  map[int][]int // by each of those, the ones that share memory with it
}

// with lists those that may share memory with pid.
func (a *alike) with(pid int, held bool) []int {
	const few = 32 // are compared one by one
	if len(a.tids)-a.sorted > few && !held {
		a.sort()
	}
	same, known := a.place[pid]
	if !known {
		return slices.Clone(a.tids)
	}
	return slices.Concat(same, a.tids[a.sorted:])
}

// sort finds those that share memory. Where they execute programs meanwhile the
// order does not hold, and it leaves them as they are.
func (a *alike) sort() {
	a.sorted, a.place = 0, nil
	var tids, rest []int
	for _, tid := range a.tids {
		if _, err := compareMemory(tid, tid); err == nil {
			tids = append(tids, tid)
		} else if err != unix.ESRCH {
			rest = append(rest, tid)
		}
	}
	a.tids = slices.Concat(tids, rest)
	slices.SortFunc(tids, func(x, y int) int {
		n, _ := compareMemory(x, y)
		return n
	})
	place := make(map[int][]int, len(tids))
	for from, i := 0, 1; i <= len(tids); i++ {
		n, err := -1, error(nil)
		if i < len(tids) {
			n, err = compareMemory(tids[i-1], tids[i])
		}
		if err != nil || n > 0 {
			return
		}
		if n < 0 {
			for _, t := range tids[from:i] {
				place[t] = tids[from:i]
			}
			from = i
		}
	}
	a.tids, a.sorted, a.place = slices.Concat(tids, rest), len(tids), place
}

// compareMemory compares the address spaces of two threads with kcmp(2),
// KCMP_VM: 0 when they are the same, else their order.
func compareMemory(a, b int) (int, error) {
	const vm = 1
	r, _, e := unix.RawSyscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), vm, 0, 0, 0)
	if e != 0 {
		return 0, e
	}
	return []int{0, -1, 1, 2}[r&3], nil
}

// Together tells which processes share memory: those have the same number, the
// index of the first of them. Of one that is gone, or cannot be looked at, it is
// its own.
func Together(pids []int) []int {
	by := make(map[program]*alike)
	first := make(map[int]int, len(pids))
	out := make([]int, len(pids))
	in := make([]*alike, len(pids))
	for i, pid := range pids {
		if _, again := first[pid]; again {
			out[i] = first[pid]
			continue
		}
		first[pid], out[i] = i, i
		m, err := programOf("/proc/" + strconv.Itoa(pid))
		if err != nil {
			continue
		}
		if by[m] == nil {
			by[m] = &alike{}
		}
		by[m].tids, in[i] = append(by[m].tids, pid), by[m]
	}
	for _, a := range by {
		if len(a.tids) > 1 {
			a.sort()
		}
	}
	for i, pid := range pids {
		if in[i] == nil {
			continue
		}
		for _, same := range in[i].place[pid] {
			out[i] = min(out[i], first[same])
		}
	}
	return out
}
