package process

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Stat is what /proc/PID/stat says of a process or thread.
type Stat struct {
	Name   string
	State  byte // R, S, D, T, t, Z, X, I: proc_pid_stat(5)
	Parent int
	Flags  uint64 // PF_ bits, include/linux/sched.h
	Start  uint64 // clock ticks since boot
	CPU    int    // it ran on last, -1 when the kernel does not tell
}

// ended reports whether the thread has ended, or is on its way.
func (s *Stat) ended() bool {
	const exiting = 0x4 // PF_EXITING
	return s.State == 'Z' || s.State == 'X' || s.Flags&exiting != 0
}

// Stat reads the state of a thread; tid 0 means the process.
func (p *Process) Stat(tid int) (st Stat, err error) {
	p.holders(func(h *holder) bool {
		st, err = h.stat(tid)
		return tid != 0 && errors.Is(err, ErrExited)
	})
	return st, err
}

func (h *holder) stat(tid int) (Stat, error) {
	b, err := h.file(taskFile(tid, "stat"))
	if err != nil {
		return Stat{}, err
	}
	return parseStat(b)
}

// taskFile is the name of a file of a thread, or with 0 of the process.
func taskFile(tid int, name string) string {
	if tid == 0 {
		return name
	}
	return "task/" + strconv.Itoa(tid) + "/" + name
}

func parseStat(b []byte) (Stat, error) {
	l, r := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if l < 0 || r < l {
		return Stat{}, errors.New("parse stat: no name")
	}
	f := strings.Fields(string(b[r+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return Stat{}, errors.New("parse stat: too short")
	}
	s := Stat{Name: string(b[l+1 : r]), State: f[0][0], CPU: -1}
	if len(f) > 36 {
		if n, err := strconv.Atoi(f[36]); err == nil {
			s.CPU = n
		}
	}
	var err error
	if s.Parent, err = strconv.Atoi(f[1]); err != nil {
		return Stat{}, fmt.Errorf("parse stat: %w", err)
	}
	if s.Flags, err = strconv.ParseUint(f[6], 10, 64); err != nil {
		return Stat{}, fmt.Errorf("parse stat: %w", err)
	}
	if s.Start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return Stat{}, fmt.Errorf("parse stat: %w", err)
	}
	return s, nil
}

// Status is what /proc/PID/status says of a process or thread.
type Status struct {
	Name             string
	Tgid, Tracer     int
	Seccomp          int // 0 none, 1 strict, 2 filter
	Ignored, Caught  uint64
	ShadowStack      bool // x86_Thread_features: shstk
	Threads          int
	UID              int // effective
	NoNewPrivileges  bool
	InOtherNamespace bool // NSpid has more than one level
}

// Status reads the status of a thread; tid 0 means the process.
func (p *Process) Status(tid int) (st Status, err error) {
	p.holders(func(h *holder) bool {
		var b []byte
		b, err = h.file(taskFile(tid, "status"))
		st = parseStatus(b)
		return tid != 0 && errors.Is(err, ErrExited)
	})
	return st, err
}

func parseStatus(b []byte) Status {
	var s Status
	number := func(val string) int {
		n, _ := strconv.Atoi(val)
		return n
	}
	for line := range strings.Lines(string(b)) {
		key, val, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		val = strings.TrimSpace(val)
		switch key {
		case "Name":
			s.Name = val
		case "Tgid":
			s.Tgid = number(val)
		case "TracerPid":
			s.Tracer = number(val)
		case "Seccomp":
			s.Seccomp = number(val)
		case "Threads":
			s.Threads = number(val)
		case "NoNewPrivs":
			s.NoNewPrivileges = number(val) == 1
		case "SigIgn":
			s.Ignored, _ = strconv.ParseUint(val, 16, 64)
		case "SigCgt":
			s.Caught, _ = strconv.ParseUint(val, 16, 64)
		case "x86_Thread_features":
			s.ShadowStack = strings.Contains(val, "shstk")
		case "NSpid":
			s.InOtherNamespace = len(strings.Fields(val)) > 1
		case "Uid":
			if f := strings.Fields(val); len(f) > 1 {
				s.UID, _ = strconv.Atoi(f[1])
			}
		}
	}
	return s
}

// Misnamed says why a number does not name a process that could be patched,
// when that is so as long as it lasts: it is a thread's, or the kernel's own.
func Misnamed(pid int) error {
	b, err := readName("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil // none any more
	}
	if st := parseStatus(b); st.Tgid != pid {
		return fmt.Errorf("%d is a thread of process %d", pid, st.Tgid)
	}
	const kernelThread = 0x00200000 // PF_KTHREAD, include/linux/sched.h
	if b, err = readName("/proc/" + strconv.Itoa(pid) + "/stat"); err != nil {
		return nil
	}
	if st, err := parseStat(b); err == nil && st.Flags&kernelThread != 0 {
		return fmt.Errorf("%d is a thread of the kernel", pid)
	}
	return nil
}

// Exe is the path of the executable, in the process's own mount namespace;
// with " (deleted)" at its end when it is.
func (p *Process) Exe() (string, error) { return p.link("exe") }

// Root is a path that leads to the root directory of the process.
func (p *Process) Root() string { return "/proc/" + strconv.Itoa(p.Pid) + "/root" }

// Tids lists the threads of all processes that have the memory (Meet).
func (p *Process) Tids() ([]int, error) {
	if err := p.Meet(); err != nil {
		return nil, err
	}
	return p.appendTids(nil)
}

// appendTids lists the threads of those that are known, without allocation once
// dst is large enough.
func (p *Process) appendTids(dst []int) (tids []int, err error) {
	p.holders(func(h *holder) bool {
		dst, err = p.tidsOf(h, dst)
		return err == nil || len(p.others) > 0 && errors.Is(err, ErrExited)
	})
	if len(dst) == 0 {
		return nil, cmp.Or(err, ErrExited)
	}
	return dst, nil
}

func (p *Process) tidsOf(h *holder, dst []int) ([]int, error) {
	if p.scratch == nil {
		p.scratch = make([]byte, 32<<10)
	}
	if _, err := unix.Seek(h.task, 0, 0); err != nil {
		return dst, gone(err)
	}
	before := len(dst)
	for {
		n, err := unix.Getdents(h.task, p.scratch)
		if err != nil {
			return dst, gone(err)
		}
		if n == 0 {
			break
		}
		// struct linux_dirent64, getdents(2): ino 8, off 8, reclen 2, type 1, name.
		for b := p.scratch[:n]; len(b) > 19; {
			l := int(b[16]) | int(b[17])<<8
			tid := 0
			for _, c := range b[19:l] {
				if c < '0' || c > '9' {
					break
				}
				tid = tid*10 + int(c-'0')
			}
			if tid != 0 {
				dst = append(dst, tid)
			}
			b = b[l:]
		}
	}
	if len(dst) == before {
		return dst, ErrExited
	}
	return dst, nil
}

// threadCount is the number of threads, zombies included: the link count of
// /proc/PID/task less two (proc_task_getattr, fs/proc/base.c).
func (p *Process) threadCount() (n int, err error) {
	p.holders(func(h *holder) bool {
		var st unix.Stat_t
		if err = gone(unix.Fstat(h.task, &st)); err == nil {
			n += int(st.Nlink) - 2
		}
		return err == nil || len(p.others) > 0 && errors.Is(err, ErrExited)
	})
	if n > 0 {
		err = nil
	}
	return n, err
}

// hasThread reports whether tid is a thread of a process that has the memory.
func (p *Process) hasThread(tid int) (has bool) {
	p.holders(func(h *holder) bool {
		has = h.hasThread(tid)
		return !has
	})
	return has
}

func (h *holder) hasThread(tid int) bool {
	return unix.Faccessat(h.task, strconv.Itoa(tid), unix.F_OK, 0) == nil
}

// BootID is the random identity of this boot of the machine.
func BootID() (string, error) { return bootID() }

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
})

// Namespaces tells those from others in which this program sees the numbers of
// processes and the times of their starts.
func Namespaces() (string, error) {
	pid, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("read namespace: %w", err)
	}
	clock, err := os.Readlink("/proc/self/ns/time")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // Linux 5.6
		return "", fmt.Errorf("read namespace: %w", err)
	}
	return pid + " " + clock, nil
}

// LockHolder is the process that holds the flock(2) of an open file, 0 when that
// is not known (proc_locks(5)).
func LockHolder(fd int) int {
	var st unix.Stat_t
	b, err := readName("/proc/locks")
	if err != nil || unix.Fstat(fd, &st) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 5 && f[1] == "FLOCK" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return max(pid, 0)
		}
	}
	return 0
}

// NameOf is the short name of any process or thread, "?" when it is gone.
func NameOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}
