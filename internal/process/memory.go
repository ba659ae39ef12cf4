package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read fills b from memory at a, whatever the protection of the pages.
func (p *Process) Read(a Addr, b []byte) error {
	n, err := p.transfer(unix.SYS_PREAD64, a, b)
	if n < len(b) {
		return fmt.Errorf("read %d bytes at %v of process %d: %w", len(b), a, p.Pid, err)
	}
	return nil
}

// Write puts b into memory at a, whatever the protection of the pages, but
// where the kernel forbids it (proc_mem.restrict_foll_force=, Linux 6.12):
// Tracer.Write then has another way.
func (p *Process) Write(a Addr, b []byte) error {
	n, err := p.transfer(unix.SYS_PWRITE64, a, b)
	if n < len(b) {
		return fmt.Errorf("write %d bytes at %v of process %d: %w", len(b), a, p.Pid, err)
	}
	return nil
}

// transfer reads or writes /proc/PID/mem by raw system calls: the Go scheduler
// must not take the processor away while threads are held. It returns how many
// bytes it got through before the error.
func (p *Process) transfer(nr uintptr, a Addr, b []byte) (done int, err error) {
	for done < len(b) {
		n, _, e := unix.RawSyscall6(nr, uintptr(p.memFD), uintptr(unsafe.Pointer(&b[done])), uintptr(len(b)-done), uintptr(a)+uintptr(done), 0, 0)
		switch {
		case e == unix.EINTR:
		case e != 0:
			return done, gone(e)
		case n == 0: // of an address space that is no more
			return done, ErrExited
		default:
			done += int(n)
		}
	}
	return done, nil
}

// Word reads the 8-byte word at a.
func (p *Process) Word(a Addr) (uint64, error) {
	var b [8]byte
	err := p.Read(a, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// readFast is process_vm_readv(2) of one piece, without allocation. It returns
// how many bytes it could read.
func (p *Process) readFast(a Addr, b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return readOf(p.Pid, a, b)
}

// readOf is process_vm_readv(2) of a thread's memory.
func readOf(tid int, a Addr, b []byte) int {
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := unix.RemoteIovec{Base: uintptr(a), Len: len(b)}
	n, _, e := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(tid),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// Places are pieces of memory of one size that are read at once, without
// allocation.
type Places struct {
	p      *Process
	remote []unix.RemoteIovec
	size   int
	bytes  []byte
}

// NewPlaces prepares to read pieces of so many bytes.
func (p *Process) NewPlaces(at []Addr, size int) *Places {
	s := &Places{p: p, size: size, bytes: make([]byte, len(at)*size)}
	for _, a := range at {
		s.remote = append(s.remote, unix.RemoteIovec{Base: uintptr(a), Len: size})
	}
	return s
}

// Read reads all of them.
func (s *Places) Read() error {
	const most = 1024 // IOV_MAX
	for first := 0; first < len(s.remote); first += most {
		remote := s.remote[first:min(first+most, len(s.remote))]
		bytes := s.bytes[first*s.size:][:len(remote)*s.size]
		local := unix.Iovec{Base: &bytes[0], Len: uint64(len(bytes))}
		n, _, e := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(s.p.Pid),
			uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote[0])), uintptr(len(remote)), 0)
		if e == 0 && int(n) == len(bytes) {
			continue
		}
		for i := range remote { // where code may be run and not read
			if err := s.p.Read(Addr(remote[i].Base), bytes[i*s.size:][:s.size]); err != nil {
				return err
			}
		}
	}
	return nil
}

// At is what was read at the i-th place.
func (s *Places) At(i int) []byte { return s.bytes[i*s.size:][:s.size] }

// writeTo is process_vm_writev(2) of one piece to a thread's memory, without
// allocation: only to where the program itself may write. It returns how many
// bytes it could write.
func writeTo(tid int, a Addr, b []byte) int {
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := unix.RemoteIovec{Base: uintptr(a), Len: len(b)}
	n, _, e := unix.RawSyscall6(unix.SYS_PROCESS_VM_WRITEV, uintptr(tid),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

// Write puts b into memory while threads are held. It goes on where the kernel
// lets only a tracer write to pages that are not writable.
func (t *Tracer) Write(a Addr, b []byte) error {
	err := t.p.Write(a, b)
	i := slices.IndexFunc(t.threads, func(th Thread) bool { return th.held })
	if err == nil || errors.Is(err, ErrExited) || i < 0 {
		return err
	}
	tid := t.threads[i].Tid
	for len(b) > 0 {
		var word [8]byte
		at := a &^ 7
		if e := t.p.Read(at, word[:]); e != nil {
			return e
		}
		n := copy(word[a-at:], b)
		if e := ptrace(unix.PTRACE_POKETEXT, tid, uintptr(at), uintptr(binary.LittleEndian.Uint64(word[:]))); e != 0 {
			return errors.Join(err, e)
		}
		a, b = a+Addr(n), b[n:]
	}
	return nil
}
