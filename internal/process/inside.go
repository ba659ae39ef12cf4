package process

import (
	"encoding/binary"
	"sort"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hit is a thread that may be executing, or return to, one of the ranges.
type Hit struct {
	Tid   int
	Range int // index
	PC    Addr
	// Sure is false when unwinding did not reach the thread's base and this is
	// just a word on its stack that would be such a return address.
	Sure bool
}

// Inside looks which held threads have a frame in any of the ranges, which are
// sorted and do not overlap; one hit for each thread, the innermost. ok is false
// when the picture is not to be trusted: a stack lies where no mapping was at
// the last Refresh. over, when not nil, ends the search early, also with !ok.
func (u *Unwinder) Inside(threads []Thread, ranges []Range, over func() bool) (hits []Hit, ok bool) {
	u.Load(threads)
	return u.Loaded(threads, ranges, over)
}

// Reserve makes room for the stacks of n threads, so that Load need not.
func (u *Unwinder) Reserve(n int) { u.buf.reserve(n, pieceSize(n)) }

// Load reads the stacks of held threads, for Loaded. With a copy of the threads
// that may be called after they were resumed; what it finds is then of the past.
func (u *Unwinder) Load(threads []Thread) {
	u.buf.reset(u)
	u.buf.load(threads)
}

// Loaded is Inside for the threads that Load was called with last.
func (u *Unwinder) Loaded(threads []Thread, ranges []Range, over func() bool) (hits []Hit, ok bool) {
	u.short = false
	if len(ranges) == 0 {
		return nil, true
	}
	for i := range threads {
		if !threads[i].held {
			continue
		}
		if over != nil && over() {
			return hits, false
		}
		u.buf.slot = i
		hit, found, known := u.insideOne(&threads[i], ranges)
		if !known {
			return hits, false
		}
		if found {
			hits = append(hits, hit)
		}
	}
	return hits, true
}

// Complete reports whether all stacks that Inside or Loaded looked at last were
// walked to their base, so that none was taken word by word.
func (u *Unwinder) Complete() bool { return !u.short }

func (u *Unwinder) insideOne(th *Thread, ranges []Range) (hit Hit, found, known bool) {
	hit = Hit{Tid: th.Tid, Sure: true}
	complete, last := u.walk(&th.Regs, func(f Frame) bool {
		hit.Range, found = within(ranges, f.PC)
		hit.PC = f.PC
		return !found
	})
	if found || complete {
		return hit, found, true
	}
	hit.Sure, u.short = false, true
	sp := Addr(th.Regs.Rsp)
	hit.Range, hit.PC, found, known = u.scan(sp, ranges)
	// From a signal handler's stack the walk may have come to another.
	if m := u.mapping(last.SP); known && !found && m != nil && !m.Contains(sp) {
		hit.Range, hit.PC, found, known = u.scan(last.SP, ranges)
	}
	return hit, found, known
}

// within finds the range that holds pc.
func within(ranges []Range, pc Addr) (int, bool) {
	if pc < ranges[0].Start || pc >= ranges[len(ranges)-1].End {
		return 0, false
	}
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].End > pc })
	return i, i < len(ranges) && ranges[i].Contains(pc)
}

// scan takes every word of the stack from sp up to the end of its mapping for
// a return address. known is false when there is no such mapping.
func (u *Unwinder) scan(sp Addr, ranges []Range) (index int, pc Addr, found, known bool) {
	m := u.mapping(sp)
	if m == nil {
		return 0, 0, false, false
	}
	if u.buf.wide == nil {
		u.buf.wide = make([]byte, 64<<10)
	}
	for a := sp &^ 7; a < m.End; {
		b := u.buf.wide[:min(Addr(len(u.buf.wide)), m.End-a)]
		if u.p.readFast(a, b) != len(b) {
			return 0, 0, false, false
		}
		for i := 0; i+8 <= len(b); i += 8 {
			w := Addr(binary.LittleEndian.Uint64(b[i:]))
			if i, ok := within(ranges, w-1); ok {
				return i, w, true, true
			}
		}
		a += Addr(len(b))
	}
	return 0, 0, false, true
}

// stackBuffer is the beginning of the stack of each held thread, read at once,
// and one more piece read when it is needed.
type stackBuffer struct {
	u     *Unwinder
	slot  int // of the thread in question, -1 for none
	piece []stackPiece
	bulk  []byte
	far   stackPiece
	fars  [4096]byte
	wide  []byte
	iov   []unix.RemoteIovec
}

type stackPiece struct {
	base Addr
	data []byte
}

func (s *stackBuffer) reset(u *Unwinder) {
	s.u, s.slot, s.far, s.piece = u, -1, stackPiece{}, s.piece[:0]
}

// pieceSize is how much of each of n stacks is read ahead, bytes.
func pieceSize(n int) int {
	if n > 8 {
		return 1024
	}
	return 8192
}

func (s *stackBuffer) reserve(n, size int) {
	if cap(s.bulk) < n*size {
		s.bulk = make([]byte, n*size*5/4)
		for i := 0; i < len(s.bulk); i += 4096 {
			s.bulk[i] = 1 // the page fault comes now
		}
	}
	if cap(s.piece) < n {
		s.piece = make([]stackPiece, 0, n*5/4+1)
	}
	if s.iov == nil {
		s.iov = make([]unix.RemoteIovec, 0, 1024)
	}
}

// load reads the stacks with as few calls as the kernel allows (UIO_MAXIOV).
func (s *stackBuffer) load(threads []Thread) {
	size := pieceSize(len(threads))
	s.reserve(len(threads), size)
	at := 0
	flush := func(from int) {
		var n uintptr
		if at > from {
			local := unix.Iovec{Base: &s.bulk[from], Len: uint64(at - from)}
			var e unix.Errno
			n, _, e = unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(s.u.p.Pid), uintptr(unsafe.Pointer(&local)), 1,
				uintptr(unsafe.Pointer(&s.iov[0])), uintptr(len(s.iov)), 0)
			if e != 0 {
				n = 0
			}
		}
		// Whatever was not read is read when it is needed.
		for i := len(s.piece) - len(s.iov); i < len(s.piece); i++ {
			l := min(int(n), len(s.piece[i].data))
			s.piece[i].data = s.piece[i].data[:l]
			n -= uintptr(l)
		}
		s.iov = s.iov[:0]
	}
	from := 0
	for i := range threads {
		sp := Addr(threads[i].Regs.Rsp) &^ 7
		l := 0
		if m := s.u.mapping(sp); m != nil && threads[i].held {
			l = int(min(Addr(size), m.End-sp))
		}
		s.piece = append(s.piece, stackPiece{sp, s.bulk[at : at+l]})
		s.iov = append(s.iov, unix.RemoteIovec{Base: uintptr(sp), Len: l})
		at += l
		if len(s.iov) == 1024 {
			flush(from)
			from = at
		}
	}
	flush(from)
}

func (p *stackPiece) read(a Addr) (uint64, bool) {
	off := uint64(a - p.base)
	if off >= uint64(len(p.data)) || uint64(len(p.data))-off < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(p.data[off:]), true
}

func (s *stackBuffer) read(a uint64) (uint64, bool) {
	if s.slot >= 0 && s.slot < len(s.piece) {
		if v, ok := s.piece[s.slot].read(Addr(a)); ok {
			return v, true
		}
	}
	if v, ok := s.far.read(Addr(a)); ok {
		return v, true
	}
	if a%8 != 0 {
		var b [8]byte
		ok := s.u.p.readFast(Addr(a), b[:]) == 8
		return binary.LittleEndian.Uint64(b[:]), ok
	}
	// No further than the page: what follows may not be mapped.
	n := min(len(s.fars), 4096-int(a&4095))
	got := s.u.p.readFast(Addr(a), s.fars[:n])
	s.far = stackPiece{Addr(a), s.fars[:got]}
	return s.far.read(Addr(a))
}

func (s *stackBuffer) readErr(a uint64) (uint64, error) {
	if v, ok := s.read(a); ok {
		return v, nil
	}
	return 0, errUnreadable
}
