// Package process is one live Linux process: its memory, mapped modules,
// threads, stacks, and system calls made on its behalf. It knows nothing of
// patches. It is the only package that calls ptrace(2).
package process

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Addr is an address in a process.
type Addr uint64

func (a Addr) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// Range is the half-open interval [Start, End) of a process's addresses.
type Range struct{ Start, End Addr }

// Contains reports whether a lies in the range.
func (r Range) Contains(a Addr) bool { return r.Start <= a && a < r.End }

// ID names a process for as long as the machine runs: a pid may be used again,
// a pid with its start time may not.
type ID struct {
	Pid   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, proc_pid_stat(5) field 22
}

func (id ID) String() string { return fmt.Sprintf("%d-%d", id.Pid, id.Start) }

// There reports whether the process is there yet, if only as a zombie.
func (id ID) There() bool {
	b, err := readName("/proc/" + strconv.Itoa(id.Pid) + "/stat")
	if err != nil {
		return false
	}
	st, err := parseStat(b)
	return err == nil && st.Start == id.Start
}

// ErrExited means that the process is gone, or has executed another program.
var ErrExited = errors.New("process has exited")

// ErrMainEnded means that the main thread has ended, by pthread_exit(3), while
// others go on. The kernel then tells nothing of the memory under /proc/PID.
var ErrMainEnded = errors.New("the main thread has ended, the others have not: such a process cannot be patched")

// Process is an open process. All its methods reach the process that Open
// found and never another that got the same pid: files are opened through one
// descriptor of /proc/PID, which dies with the process, and memory through one
// of /proc/PID/mem, which dies with its address space (execve).
//
// Where several processes share one memory, they are all meant (Meet).
type Process struct {
	holder           // by which /proc is read
	others  []holder // that share the memory
	mem     *os.File
	memFD   int // of mem
	cache   *Cache
	program program        // that it executes, once others were looked for
	witness Addr           // where memory tells whose it is, once it was shared
	asked   hidden         // whether they have the memory
	scratch []byte         // of Tids
	hashed  map[*File]bool // whose identity was asked for
	toHash  int64          // bytes of those
	kept    struct {
		set bool
		off int         // the processor that KeepOff keeps this program off
		all unix.CPUSet // where it may run
	}
}

// Open opens the process pid. It needs the right to trace it (root).
func Open(pid int, cache *Cache) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, gone(err))
	}
	p := &Process{holder: holder{ID: ID{Pid: pid}, pidfd: fd, dir: -1, task: -1}, cache: cache, hashed: make(map[*File]bool)}
	if cache == nil {
		p.cache = NewCache()
	}
	if err := p.open(); err != nil {
		p.Close()
		return nil, fmt.Errorf("open process %d: %w", pid, gone(err))
	}
	return p, nil
}

func (p *Process) open() error {
	if err := p.openDir(); err != nil {
		return err
	}
	m, err := unix.Openat(p.dir, "mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ESRCH) && p.mainEnded() {
		return ErrMainEnded
	}
	if err != nil {
		return err
	}
	p.mem, p.memFD = os.NewFile(uintptr(m), "/proc/"+strconv.Itoa(p.Pid)+"/mem"), m
	return unix.PidfdSendSignal(p.pidfd, 0, nil, 0)
}

// Close releases the descriptors.
func (p *Process) Close() error {
	p.anywhere()
	p.holders(func(h *holder) bool { h.close(); return true })
	if p.mem != nil {
		return p.mem.Close()
	}
	return nil
}

// Alive reports whether the process still runs the program that Open found, or
// another that shared its memory does.
func (p *Process) Alive() bool {
	if p.part() != nil {
		return false
	}
	if unix.PidfdSendSignal(p.pidfd, 0, nil, 0) != nil {
		return false
	}
	// A process that ends gives up its memory some time before it is a zombie;
	// reading what is not mapped is an error of memory that is still there.
	if !p.hasMemory(0) {
		return false
	}
	st, err := p.Stat(0)
	return err == nil && !st.ended() || p.mainEnded()
}

// hasMemory reports whether the address space is still the one that Open found;
// a is any address.
func (p *Process) hasMemory(a Addr) bool {
	var b [1]byte
	_, err := p.transfer(unix.SYS_PREAD64, a, b[:])
	return !errors.Is(err, ErrExited)
}

// mainEnded reports whether the main thread alone has ended. While a whole
// process ends, it may look so for a moment.
func (p *Process) mainEnded() bool {
	for range 20 {
		tids, err := p.tidsOf(&p.holder, nil)
		if err != nil || !slices.ContainsFunc(tids, func(tid int) bool {
			st, err := p.stat(tid)
			return err == nil && !st.ended()
		}) {
			return false
		}
		nap(time.Millisecond)
	}
	return true
}

// file reads a file below /proc/PID. The error is ErrTooLarge for one of more
// than 64 MiB.
func (h *holder) file(name string) ([]byte, error) {
	fd, err := unix.Openat(h.dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, gone(err)
	}
	b, err := readAll(fd)
	if errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("read %s of process %d: %w", name, h.Pid, err)
	}
	return b, gone(err)
}

// readAll reads a file of /proc to its end and closes it, without what os.File
// costs. More than maxText is ErrTooLarge.
func readAll(fd int) ([]byte, error) {
	defer unix.Close(fd)
	b := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return b, err
		case n == 0:
			return b, nil
		default:
			if b = b[:len(b)+n]; len(b) > maxText {
				return nil, ErrTooLarge
			}
			if len(b) == cap(b) {
				b = slices.Grow(b, len(b))
			}
		}
	}
}

// readName is readAll for a file by its name.
func readName(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return readAll(fd)
}

// link reads a symbolic link below /proc/PID.
func (h *holder) link(name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(h.dir, name, b)
	if err != nil {
		return "", gone(err)
	}
	return string(b[:n]), nil
}

// gone turns the kernel's ways to say that a process is no more into ErrExited.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w (%w)", ErrExited, err)
	}
	return err
}
