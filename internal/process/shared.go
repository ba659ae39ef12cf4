package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// holder is a process that has the memory: the one that Open found, or another
// that shares it, a child of clone(2) with CLONE_VM but without CLONE_THREAD or
// of vfork(2).
type holder struct {
	ID
	pidfd, dir, task int
}

// SharedError says that another process shares the memory and cannot be held.
type SharedError struct {
	Pid   int
	Other int
	Name  string // of the other
	Err   error
}

func (e *SharedError) Error() string {
	return fmt.Sprintf("process %d (%s) shares the memory of process %d: %v", e.Other, e.Name, e.Pid, e.Err)
}

func (e *SharedError) Unwrap() error { return e.Err }

// openHolder opens the process of a thread.
func openHolder(tid int) (h holder, err error) {
	h = holder{pidfd: -1, dir: -1, task: -1}
	b, err := readName("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return h, err
	}
	h.Pid = parseStatus(b).Tgid
	if h.pidfd, err = unix.PidfdOpen(h.Pid, 0); err == nil {
		err = h.openDir()
	}
	if err != nil {
		h.close()
		return h, err
	}
	return h, nil
}

// openDir opens the directories of the process of pidfd.
func (h *holder) openDir() (err error) {
	if h.dir, err = unix.Open("/proc/"+strconv.Itoa(h.Pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if h.task, err = unix.Openat(h.dir, "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	st, err := h.stat(0)
	if err != nil {
		return err
	}
	h.Start = st.Start
	// The pidfd and the directory are of one process only if the pidfd's is
	// still alive now that the directory is open.
	return unix.PidfdSendSignal(h.pidfd, 0, nil, 0)
}

func (h *holder) close() {
	for _, fd := range []int{h.pidfd, h.dir, h.task} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Sharing are all processes that are known to have the memory; none when it is
// not shared.
func (p *Process) Sharing() []ID {
	if len(p.others) == 0 {
		return nil
	}
	out := []ID{p.ID}
	for i := range p.others {
		out = append(out, p.others[i].ID)
	}
	return out
}

// holders calls f with each process that has the memory, until it returns false.
func (p *Process) holders(f func(*holder) bool) {
	if !f(&p.holder) {
		return
	}
	for i := range p.others {
		if !f(&p.others[i]) {
			return
		}
	}
}

// OwnerOf is the pid of the process that a thread is of.
func (p *Process) OwnerOf(tid int) int {
	pid := p.Pid
	p.holders(func(h *holder) bool {
		if h.hasThread(tid) {
			pid = h.Pid
			return false
		}
		return true
	})
	return pid
}

// Meet looks for processes that share the memory: their threads execute what is
// changed, too. Those that have left it, by execve or at their end, are
// forgotten; when it was the one that Open found, another takes its place. The
// error is ErrExited when none is left, and a *SharedError when one cannot be
// reached. Where the kernel has no kcmp(2), none is found.
func (p *Process) Meet() error {
	_, err := p.meet(false)
	return err
}

// meet is Meet; more says that there are some that were not known. With held it
// does little, and the error may be errHeld.
func (p *Process) meet(held bool) (more bool, err error) {
	fail := func(err error) (bool, error) {
		return more, fmt.Errorf("look for processes that share the memory of process %d: %w", p.Pid, gone(err))
	}
	if err := p.part(); err != nil {
		return false, err
	}
	if p.program == (program{}) {
		if p.program, err = programOf("/proc/" + strconv.Itoa(p.Pid)); err != nil {
			return fail(err)
		}
	}
	tids, hidden, err := p.cache.peers.of(p.program, p.Pid, held)
	if err != nil {
		return fail(err)
	}
	if !held {
		if err := p.mayShare(hidden); err != nil {
			return false, err
		}
	}
	for _, tid := range tids {
		if n, err := compareMemory(p.Pid, tid); err != nil || n != 0 || p.hasThread(tid) {
			continue
		}
		h, err := openHolder(tid)
		if err != nil {
			if errors.Is(gone(err), ErrExited) {
				continue
			}
			return more, &SharedError{p.Pid, tid, NameOf(tid), err}
		}
		if err := p.adopt(h, tid); err != nil {
			return fail(err)
		}
		more = more || p.hasThread(tid)
	}
	return more, nil
}

// mayShare refuses when a process that may not be looked at seems to have the
// memory: the sizes of it and the arguments in it, which all may read, are the
// same. Each is asked once: only a new process can come to share memory. With
// CAP_SYS_PTRACE none is hidden, or almost none.
func (p *Process) mayShare(h hidden) error {
	const tries = 10 // sizes change
	look := func(pid int) string {
		dir := "/proc/" + strconv.Itoa(pid)
		sizes, _ := readName(dir + "/statm")
		args, _ := readName(dir + "/cmdline")
		return string(sizes) + string(args)
	}
	if !h.read.Equal(p.asked.read) {
		p.asked = hidden{read: h.read}
	}
	for _, pid := range h.pids[len(p.asked.pids):] {
		for range tries {
			before, its := look(p.Pid), look(pid)
			if before != look(p.Pid) {
				continue
			}
			if its == before {
				return &SharedError{p.Pid, pid, NameOf(pid), fmt.Errorf("as its size and arguments say: %w", unix.EACCES)}
			}
			break
		}
	}
	p.asked = h
	return nil
}

// adopt takes in a process of which a thread shared the memory.
func (p *Process) adopt(h holder, tid int) error {
	if p.witness == 0 {
		b, err := p.file("auxv")
		if err != nil {
			h.close()
			return err
		}
		p.witness = randomIn(b)
	}
	// Before its directory was open, the thread may have ended, and another process have its number.
	if n, err := compareMemory(p.Pid, tid); err != nil || n != 0 || !h.hasThread(tid) {
		h.close()
		return nil
	}
	p.others = append(p.others, h)
	return p.part()
}

// randomIn finds in an auxiliary vector where the kernel has put random bytes
// for the program: AT_RANDOM, getauxval(3).
func randomIn(auxv []byte) Addr {
	const atRandom = 25
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == atRandom {
			return Addr(binary.LittleEndian.Uint64(auxv[8:]))
		}
	}
	return 0
}

// part forgets processes that have left the memory.
func (p *Process) part() error {
	if p.witness == 0 {
		return nil
	}
	left := func(h holder) bool {
		if p.holds(&h) {
			return false
		}
		h.close()
		return true
	}
	if p.others = slices.DeleteFunc(p.others, left); p.holds(&p.holder) {
		return nil
	}
	if len(p.others) == 0 {
		return fmt.Errorf("process %d: %w", p.Pid, ErrExited)
	}
	p.holder.close()
	p.holder, p.others = p.others[0], slices.Clone(p.others[1:])
	return nil
}

// replaced reports whether the process by which /proc is read has left the memory
// to others. What was read before is of the memory if it has not.
func (p *Process) replaced() bool { return p.witness != 0 && !p.holds(&p.holder) }

// holds reports whether a process has the memory: its first thread, or when
// that has ended another.
func (p *Process) holds(h *holder) bool {
	if p.has(h.Pid) {
		return h.hasThread(h.Pid)
	}
	tids, _ := p.tidsOf(h, nil)
	return slices.ContainsFunc(tids, p.has)
}

// has reports whether a thread has the memory that p.mem leads to: what the
// kernel gave the program to be random when it began (execve) is the same. Only
// what shared the memory once is asked. Where that cannot be read, and as long as
// the memory was never shared, it is enough that the memory is there.
func (p *Process) has(tid int) bool {
	var ours, its [16]byte
	if p.witness == 0 {
		return p.hasMemory(0)
	}
	if _, err := p.transfer(unix.SYS_PREAD64, p.witness, ours[:]); err != nil {
		return !errors.Is(err, ErrExited)
	}
	return readOf(tid, p.witness, its[:]) == len(its) && ours == its
}
