package process

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Gadgets are two instruction sequences in a process's libraries.
type Gadgets struct {
	syscall  Addr // syscall; ret
	restorer Addr // mov $15, %rax; syscall: rt_sigreturn(2)
}

// FindGadgets looks for them in the mapped files, the C library first.
func (p *Process) FindGadgets(maps []Mapping) (Gadgets, error) {
	var g Gadgets
	for _, libc := range []bool{true, false} {
		for _, m := range maps {
			if m.Prot&(Exec|Write) != Exec || m.Inode == 0 || m.Placed() || isLibc(m.Path) != libc {
				continue
			}
			in := p.gadgetsIn(m)
			g.syscall, g.restorer = cmp.Or(g.syscall, in.syscall), cmp.Or(g.restorer, in.restorer)
			if g.syscall != 0 && g.restorer != 0 {
				return g, nil
			}
		}
	}
	return g, fmt.Errorf("process %d: no system call and return from a signal in its mapped files", p.Pid)
}

var (
	callGadget  = []byte{0x0f, 0x05, 0xc3}
	returnStubs = [][]byte{
		{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}, // glibc, Go
		{0xb8, 15, 0, 0, 0, 0x0f, 0x05},             // musl
	}
)

// spotKey is a mapping that looks like one seen before.
type spotKey struct {
	dev              string
	inode, off, size uint64
}

// gadgetsIn looks for them in a mapping, first where they were in one that looked
// alike; 0 is none.
func (p *Process) gadgetsIn(m Mapping) (g Gadgets) {
	key := spotKey{m.Dev, m.Inode, m.Off, uint64(m.End - m.Start)}
	p.cache.mu.Lock()
	at, known := p.cache.spots[key]
	p.cache.mu.Unlock()
	if g = (Gadgets{m.Start + at.syscall, m.Start + at.restorer}); known && p.hasGadgets(g) {
		return g
	}
	g = Gadgets{}
	b := make([]byte, min(m.End-m.Start, 64<<20))
	if p.Read(m.Start, b) != nil {
		return g
	}
	if i := bytes.Index(b, callGadget); i >= 0 {
		g.syscall = m.Start + Addr(i)
	}
	for _, stub := range returnStubs {
		if i := bytes.Index(b, stub); i >= 0 && g.restorer == 0 {
			g.restorer = m.Start + Addr(i)
		}
	}
	if g.syscall != 0 && g.restorer != 0 {
		p.cache.mu.Lock()
		p.cache.spots[key] = Gadgets{g.syscall - m.Start, g.restorer - m.Start}
		p.cache.mu.Unlock()
	}
	return g
}

func (p *Process) hasGadgets(g Gadgets) bool {
	holds := func(a Addr, want []byte) bool {
		var b [9]byte
		return p.Read(a, b[:len(want)]) == nil && bytes.Equal(b[:len(want)], want)
	}
	return holds(g.syscall, callGadget) && slices.ContainsFunc(returnStubs, func(stub []byte) bool { return holds(g.restorer, stub) })
}

func isLibc(path string) bool {
	return strings.Contains(path, "/libc.so") || strings.Contains(path, "/libc-") || strings.Contains(path, "/ld-musl-")
}

// Call makes a system call in the borrowed thread. The result is the kernel's;
// a value of -errno comes back as a unix.Errno.
type Call func(nr uintptr, args ...uint64) (uint64, error)

// ErrNoThread means that at the moment no thread can make system calls for us.
var ErrNoThread = errors.New("no thread can be borrowed")

// Borrow stops the thread tid and lets fn make system calls in it; the other
// threads keep running. It returns how long the thread was held. Whatever
// happens to the tracer meanwhile, the thread finds back by itself: its
// context lies in a signal frame on its own stack, and the calls return to the
// C library's stub that ends a signal handler. Errors of fn are passed on.
func (t *Tracer) Borrow(tid int, g Gadgets, budget time.Duration, fn func(Call) error) (held time.Duration, err error) {
	st, err := t.p.Status(tid)
	if err != nil {
		return 0, err
	}
	l := &loan{t: t, g: g, suspend: st.Seccomp != 0, layout: xlayoutHere(), area: touchedPages(16 << 10), frame: touchedPages(20 << 10), below: touchedPages(20 << 10)}
	if err := t.StopOne(tid, budget); err != nil {
		return 0, err
	}
	l.th = &t.threads[0]
	if err = t.ours(tid); err == nil {
		err = l.begin()
	}
	if err == nil {
		err = fn(l.call)
		if e := l.end(); e != nil {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		err = fmt.Errorf("borrow thread %d of process %d: %w", tid, t.p.Pid, err)
	}
	return t.Resume(), err
}

// touchedPages is memory that will not fault when it is first used.
func touchedPages(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return b
}

// loan is a thread that makes system calls for us.
type loan struct {
	t       *Tracer
	th      *Thread
	g       Gadgets
	suspend bool // seccomp

	layout  xlayout
	area    []byte // for the FPU state; these are made before the stop
	frame   []byte
	base    Addr   // of the frame
	below   []byte // what was where the frame is
	mask    uint64
	changed bool
	inCall  bool // stands at the end of a system call
}

// begin puts the frame on the thread's stack and points the thread at it.
func (l *loan) begin() error {
	tid, r := l.th.Tid, &l.th.Regs
	if !l.th.event || l.inSequence() {
		return ErrNoThread // about to take a signal, or in a restartable sequence (rseq(2))
	}
	if l.suspend {
		if e := ptrace(unix.PTRACE_SETOPTIONS, tid, 0, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_SUSPEND_SECCOMP); e != 0 {
			return fmt.Errorf("suspend seccomp: %w", e)
		}
	}
	if e := getMask(tid, &l.mask); e != 0 {
		return fmt.Errorf("read signal mask: %w", e)
	}
	n, e := getXState(tid, l.area)
	if e != 0 {
		return fmt.Errorf("read FPU state: %w", e)
	}
	xstate := l.layout.signalXState(l.area[:n])
	const redZone, head = 128, 568
	fp := (Addr(r.Rsp) - redZone - Addr(len(xstate))) &^ 63
	l.base = fp - head
	back := *r
	if nr := l.t.p.restarted(r); nr != 0 {
		back.Orig_rax = nr
	}
	back = again(back)
	frame := sigframe(l.frame, l.base, l.g.restorer, &back, l.mask, xstate)
	// What lies below the red zone is nobody's (psABI 3.2.2), but where a small
	// stack ends something else does: it is put back.
	l.below = l.below[:len(frame)]
	if n := readOf(tid, l.base, l.below); n != len(frame) {
		return fmt.Errorf("%w: no room on its stack", ErrNoThread)
	}
	if n := writeTo(tid, l.base, frame); n != len(frame) {
		return fmt.Errorf("%w: no room on its stack", ErrNoThread)
	}
	l.at("frame written")
	return nil
}

// restarted is the system call that a thread in restart_syscall(2) made first,
// as far as the instruction before it tells (mov $nr, %eax), else 0: what the
// kernel knows of it is lost in rt_sigreturn.
func (p *Process) restarted(r *Regs) uint64 {
	var b [5]byte
	if r.Orig_rax != unix.SYS_RESTART_SYSCALL || p.Read(Addr(r.Rip)-7, b[:]) != nil || b[0] != 0xb8 {
		return 0
	}
	switch nr := uint64(binary.LittleEndian.Uint32(b[1:])); nr {
	case unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_POLL, unix.SYS_FUTEX:
		return nr
	}
	return 0
}

func (l *loan) at(step string) {
	if l.t.step != nil {
		l.t.step(step)
	}
}

// inSequence reports whether the thread is in a restartable sequence. Moving
// it elsewhere and back would hide from the kernel that it was interrupted.
func (l *loan) inSequence() bool {
	var c rseqConfig
	if getRseq(l.th.Tid, &c) != 0 || c.addr == 0 {
		return false
	}
	// struct rseq: rseq_cs at 8; struct rseq_cs: start_ip 8, post_commit_offset 16.
	cs, err := l.t.p.Word(Addr(c.addr) + 8)
	if err != nil || cs == 0 {
		return err != nil
	}
	start, err := l.t.p.Word(Addr(cs) + 8)
	if err != nil {
		return true
	}
	length, err := l.t.p.Word(Addr(cs) + 16)
	return err != nil || l.th.Regs.Rip-start < length
}

func (l *loan) call(nr uintptr, args ...uint64) (uint64, error) {
	if err := l.point(nr, args); err != nil {
		return 0, err
	}
	// Signals of a single step would kill the thread when we die. With
	// TRACESYSGOOD the stops at the system call's ends leave nothing behind.
	for range 2 {
		if err := l.run(unix.PTRACE_SYSCALL, false); err != nil {
			return 0, err
		}
		l.at("end of call")
	}
	l.inCall = true
	var r Regs
	if e := getRegs(l.th.Tid, &r); e != 0 {
		return 0, fmt.Errorf("read registers: %w", e)
	}
	if e := errnoOf(&r); e != 0 {
		return 0, e
	}
	return r.Rax, nil
}

// point points the thread at a system call, behind which is the frame. From
// here on a death of ours sends the thread through it.
func (l *loan) point(nr uintptr, args []uint64) error {
	tid := l.th.Tid
	r := l.th.Regs
	r.Rax, r.Orig_rax = uint64(nr), ^uint64(0)
	r.Rip, r.Rsp = uint64(l.g.syscall), uint64(l.base)
	r.Eflags &^= 0x100 | 0x400 // TF, DF
	for i, reg := range []*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9} {
		*reg = 0
		if i < len(args) {
			*reg = args[i]
		}
	}
	if e := setRegs(tid, &r); e != 0 {
		return fmt.Errorf("set registers: %w", e)
	}
	l.changed = true
	l.at("registers set")
	// Its signals are blocked only now, since the frame restores the mask.
	if e := setMask(tid, ^uint64(0)); e != 0 {
		return fmt.Errorf("block signals: %w", e)
	}
	l.at("signals blocked")
	return nil
}

// run resumes the thread until its next stop: at an end of a system call, or
// (event) at the interruption that was asked for.
func (l *loan) run(req int, event bool) error {
	for range 100 {
		if e := ptrace(req, l.th.Tid, 0, 0); e != 0 {
			return fmt.Errorf("resume: %w", e)
		}
		l.at("resumed")
		var st unix.WaitStatus
		for begun := now(); ; {
			n, e := waitTid(l.th.Tid, &st, false)
			if e != 0 || n != 0 && !st.Stopped() {
				l.th.held, l.th.dead, l.changed = false, true, false
				return ErrExited
			}
			if n != 0 {
				break
			}
			if now()-begun > time.Second {
				return &BusyError{Tid: l.th.Tid, Name: NameOf(l.th.Tid), State: '?'}
			}
		}
		isEvent := int(st)>>16 == eventStop
		switch {
		case isEvent && event, st.StopSignal() == unix.SIGTRAP|0x80 && !event:
			return nil
		case isEvent, st.StopSignal() == unix.SIGTRAP|0x80:
			// A stop of the whole process began; it goes on when the thread is let go.
		default:
			return fmt.Errorf("system call made in thread: it got %v", st.StopSignal())
		}
	}
	return errors.New("system call made in thread: it does not end")
}

// end gives the thread its registers back. It must not stand at the end of a
// system call when it is resumed: from there the kernel does not look at
// ERESTART errors, and the program would see errno 512.
func (l *loan) end() error {
	if !l.changed {
		return l.putBack()
	}
	if l.inCall {
		if e := ptrace(unix.PTRACE_INTERRUPT, l.th.Tid, 0, 0); e != 0 {
			return fmt.Errorf("interrupt: %w", e)
		}
		if err := l.run(unix.PTRACE_CONT, true); err != nil {
			return err
		}
	}
	l.at("interrupted")
	if e := setMask(l.th.Tid, l.mask); e != 0 {
		return fmt.Errorf("restore signal mask: %w", e)
	}
	l.at("mask restored")
	if e := setRegs(l.th.Tid, &l.th.Regs); e != 0 {
		return fmt.Errorf("restore registers: %w", e)
	}
	l.at("registers restored")
	return l.putBack()
}

// putBack restores what was where the frame is, when nothing needs that any more.
func (l *loan) putBack() error {
	if n := writeTo(l.th.Tid, l.base, l.below); n != len(l.below) && l.th.held {
		return errors.New("restore the stack: it cannot be written any more")
	}
	l.at("stack restored")
	return nil
}
