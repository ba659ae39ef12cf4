package process

import (
	"bytes"
	"errors"
	"fmt"
	"sort"

	"hotpatch/internal/module/cfi"
)

// Code is a piece of code with its call-frame information.
type Code struct {
	Range
	Bias  Addr       // of the table's addresses
	Table *cfi.Table // nil: none
	Entry Addr       // of a program: its first instruction, else 0
	Name  string
	file  *File
}

// Unwinder walks the stacks of one process. It is not safe for concurrent use.
type Unwinder struct {
	p     *Process
	maps  []Mapping
	code  []Code // sorted by address
	extra []Code
	rows  map[Addr]*row
	buf   stackBuffer
	short bool // a walk did not come to the outermost frame
}

// NewUnwinder reads the modules of the process.
func NewUnwinder(p *Process) (*Unwinder, error) {
	u := &Unwinder{p: p}
	return u, u.Refresh()
}

// Add makes code known that is not in a mapped file.
func (u *Unwinder) Add(c Code) {
	u.extra = append(u.extra, c)
	u.arrange(u.code)
}

// Refresh reads the mappings again: threads and libraries come and go.
func (u *Unwinder) Refresh() error {
	maps, err := u.p.Maps()
	if err != nil {
		return err
	}
	u.maps = maps
	var code []Code
	mods := u.p.ModulesOf(maps)
	for i := range mods {
		m := &mods[i]
		c := Code{Bias: m.Bias, Name: m.Name()}
		if f, err := u.p.File(m); err == nil {
			c.file, c.Table, c.Entry = f, f.table, m.Bias+Addr(f.Entry)
		}
		for _, mm := range m.Maps {
			if mm.Prot&Exec != 0 {
				c.Range = mm.Range
				code = append(code, c)
			}
		}
	}
	u.arrange(code)
	return nil
}

func (u *Unwinder) arrange(code []Code) {
	for _, e := range u.extra {
		have := false
		for _, c := range code {
			have = have || c.Range == e.Range
		}
		if !have {
			code = append(code, e)
		}
	}
	sort.Slice(code, func(i, j int) bool { return code[i].Start < code[j].Start })
	u.code, u.rows = code, make(map[Addr]*row)
}

// Maps are the mappings as of the last Refresh.
func (u *Unwinder) Maps() []Mapping { return u.maps }

func (u *Unwinder) find(pc Addr) *Code {
	i := sort.Search(len(u.code), func(i int) bool { return u.code[i].End > pc })
	if i < len(u.code) && u.code[i].Contains(pc) {
		return &u.code[i]
	}
	return nil
}

func (u *Unwinder) mapping(a Addr) *Mapping {
	i := sort.Search(len(u.maps), func(i int) bool { return u.maps[i].End > a })
	if i < len(u.maps) && u.maps[i].Contains(a) {
		return &u.maps[i]
	}
	return nil
}

type rowKind uint8

const (
	unknownRow   rowKind = iota // no call-frame information
	outermostRow                // there is no caller
	simpleRow                   // the CFA is a register and an offset, registers lie beside it
	fullRow                     // anything else
)

// row is the unwinding rule for one pc.
type row struct {
	kind   rowKind
	signal bool
	reg    uint8 // the CFA is reg+off
	off    int64
	ra     int64 // the return address lies at CFA+ra
	n      int
	saved  [8]struct {
		reg uint8
		off int64
	}
	full cfi.Row
}

// calleeSaved are the registers that a function preserves: psABI x86-64, figure 3.4.
const calleeSaved = 1<<3 | 1<<cfi.RBP | 1<<12 | 1<<13 | 1<<14 | 1<<15

func (u *Unwinder) rowAt(pc Addr) *row {
	if r := u.rows[pc]; r != nil {
		return r
	}
	r := u.makeRow(pc)
	u.rows[pc] = r
	return r
}

func (u *Unwinder) makeRow(pc Addr) *row {
	r := &row{}
	c := u.find(pc)
	if c == nil {
		return r
	}
	var fde *cfi.FDE
	if c.Table != nil {
		fde = c.Table.Find(uint64(pc - c.Bias))
	}
	if fde == nil {
		if c.Entry != 0 && pc-c.Entry < 64 || u.muslThreadStart(pc) {
			r.kind = outermostRow
		}
		return r
	}
	var err error
	if r.full, err = fde.Row(uint64(pc - c.Bias)); err != nil {
		return r
	}
	r.signal = fde.CIE.Signal
	r.simplify()
	return r
}

// muslThreadStart recognises the place in musl's clone (x86_64/clone.s, which
// has no call-frame information) to which a thread's first function returns:
// mov %eax,%edi; xor %eax,%eax; mov $60,%al; syscall. pc is one less.
func (u *Unwinder) muslThreadStart(pc Addr) bool {
	var b [8]byte
	want := []byte{0x89, 0xc7, 0x31, 0xc0, 0xb0, 60, 0x0f, 0x05}
	return u.p.readFast(pc+1, b[:]) == len(b) && bytes.Equal(b[:], want)
}

func (r *row) simplify() {
	f := &r.full
	r.kind = fullRow
	switch f.Regs[cfi.RA].Kind {
	case cfi.Undefined:
		r.kind = outermostRow
		return
	case cfi.Offset:
		r.ra = f.Regs[cfi.RA].Off
	default:
		return
	}
	if f.CFA.Kind != cfi.Register || f.Regs[cfi.RSP].Kind != cfi.Unset {
		return
	}
	for i := range f.Regs[:cfi.RA] {
		switch f.Regs[i].Kind {
		case cfi.Unset, cfi.Same:
		case cfi.Offset:
			if r.n == len(r.saved) {
				return
			}
			r.saved[r.n].reg, r.saved[r.n].off = uint8(i), f.Regs[i].Off
			r.n++
		default:
			return
		}
	}
	r.kind, r.reg, r.off = simpleRow, f.CFA.Reg, f.CFA.Off
}

var errUnreadable = errors.New("stack cannot be read")

// step replaces regs with the caller's.
func (r *row) step(regs *cfi.Regs, s *stackBuffer) bool {
	if r.kind == fullRow {
		next, err := r.full.Step(regs, s.readErr)
		*regs = next
		return err == nil
	}
	if regs.Known>>r.reg&1 == 0 {
		return false
	}
	cfa := regs.R[r.reg] + uint64(r.off)
	ra, ok := s.read(cfa + uint64(r.ra))
	if !ok {
		return false
	}
	regs.Known &= calleeSaved
	for _, v := range r.saved[:r.n] {
		w, ok := s.read(cfa + uint64(v.off))
		if !ok {
			return false
		}
		regs.Set(int(v.reg), w)
	}
	regs.Set(cfi.RSP, cfa)
	regs.Set(cfi.RA, ra)
	return true
}

// Frame is one activation on a stack.
type Frame struct {
	// PC is where it stands; for a caller, the byte before the return address.
	PC, SP Addr
}

// unwindRegs are a stopped thread's registers by DWARF number: psABI x86-64, figure 3.36.
func unwindRegs(r *Regs) cfi.Regs {
	return cfi.Regs{Known: 1<<17 - 1, R: [17]uint64{
		r.Rax, r.Rdx, r.Rcx, r.Rbx, r.Rsi, r.Rdi, r.Rbp, r.Rsp,
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15, r.Rip,
	}}
}

const maxFrames = 20000

// walk calls visit for each frame, innermost first, until it returns false. It
// reports whether it came to the outermost frame, and the last frame's place.
func (u *Unwinder) walk(r *Regs, visit func(Frame) bool) (complete bool, last Frame) {
	regs := unwindRegs(r)
	exact := true
	for range maxFrames {
		pc, sp := Addr(regs.R[cfi.RA]), Addr(regs.R[cfi.RSP])
		if pc == 0 {
			return true, last
		}
		if !exact {
			pc--
		}
		last = Frame{pc, sp}
		if !visit(last) {
			return false, last
		}
		row := u.rowAt(pc)
		switch row.kind {
		case unknownRow:
			return false, last
		case outermostRow:
			return true, last
		}
		if !row.step(&regs, &u.buf) {
			return false, last
		}
		exact = row.signal
		// A stack grows down: only a signal handler can stand on another one.
		if Addr(regs.R[cfi.RSP]) <= sp && !row.signal {
			return false, last
		}
	}
	return false, last
}

// Stack lists a held thread's frames, innermost first, and whether the last is
// the outermost.
func (u *Unwinder) Stack(th *Thread) (frames []Frame, complete bool) {
	u.buf.reset(u)
	complete, _ = u.walk(&th.Regs, func(f Frame) bool {
		frames = append(frames, f)
		return true
	})
	return frames, complete
}

// Name says for people where a pc lies: function+offset (module), or
// module+offset where no symbol covers it.
func (u *Unwinder) Name(pc Addr) string {
	c := u.find(pc)
	if c == nil {
		return pc.String()
	}
	if c.file != nil {
		if n := c.file.name(uint64(pc - c.Bias)); n != "" {
			return fmt.Sprintf("%s (%s)", n, c.Name)
		}
	}
	return fmt.Sprintf("%s+%#x", c.Name, uint64(pc-c.Bias))
}
