package check

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"

	"hotpatch/internal/module/x86"
)

// use is how an instruction uses what it refers to.
type use uint8

const (
	flow    use = iota // a branch or call leads there
	address            // its address is taken
	access             // it is read or written
)

// ref is a reference out of a part, or through a RIP-relative operand.
type ref struct {
	off             uint32 // of the instruction in its part
	index           uint32 // among the instructions that are no padding
	fieldOff, field uint8  // of the displacement, and its bytes
	use             use
	size            uint8 // of an access, 0 when not known
	absolute        bool  // the field holds the address itself
	target          uint64
}

// part is one range of code: a function, or a piece of one. Each frame is one;
// what no frame covers is a gap.
type part struct {
	start, end uint64
	frame      *frame
	gap        bool
	bad        bool // not all of it is instructions
	jumps      bool // has an indirect jump
	count      int  // instructions, without padding
	hash       [16]byte
	refs       []ref
	name       string // for people
	key        string // the name that says who it is, if one does
}

func (p *part) String() string {
	if p.name != "" {
		return p.name
	}
	return fmt.Sprintf("code at %#x", p.start)
}

// readParts cuts the code of an image at its frames.
func (m *image) readParts() error {
	s := m.sectionNamed(".eh_frame")
	if s == nil {
		return fmt.Errorf("%w: none", errFrames)
	}
	frames, err := readFrames(m.bytes(s.start, s.end-s.start), s.start)
	if err != nil {
		return err
	}
	for _, f := range frames {
		if sec := m.section(f.start); sec != nil && sec.exec && f.end <= sec.end && f.end > f.start && !strings.HasPrefix(sec.name, ".plt") {
			m.parts = append(m.parts, &part{start: f.start, end: f.end, frame: f})
		}
	}
	slices.SortStableFunc(m.parts, func(a, b *part) int { return cmp.Compare(a.start, b.start) })
	m.parts = slices.CompactFunc(m.parts, func(a, b *part) bool { return a.start == b.start })
	for i := 1; i < len(m.parts); i++ {
		if m.parts[i].start < m.parts[i-1].end {
			return fmt.Errorf("%w: ranges overlap at %#x", errFrames, m.parts[i].start)
		}
	}
	m.gaps()
	for _, p := range m.parts {
		m.decode(p)
	}
	for key, a := range m.funcs {
		p := m.partAt(a)
		if p == nil || p.start != a {
			continue
		}
		plain := key[strings.LastIndexByte(key, ':')+1:]
		plain, _, _ = strings.Cut(strings.TrimPrefix(plain, "dynamic "), "@")
		if p.name == "" || plain < p.name {
			p.name = plain
		}
		if !strings.Contains(plain, ".") && (p.key == "" || key < p.key) {
			p.key = key
		}
	}
	return nil
}

// gaps adds the code between the frames.
func (m *image) gaps() {
	var out []*part
	for i := range m.sections {
		s := &m.sections[i]
		if !s.exec || strings.HasPrefix(s.name, ".plt") || s.name == ".iplt" {
			continue
		}
		at := s.start
		add := func(end uint64) {
			for at < end {
				b := m.bytes(at, min(16, end-at))
				in, err := x86.Decode(b)
				if len(b) == 0 || b[0] != 0 && (err != nil || in.Kind != x86.Nop && in.Kind != x86.Int3) {
					break
				}
				at += max(1, uint64(in.Len))
				if b[0] == 0 {
					at = at - max(1, uint64(in.Len)) + 1
				}
			}
			if at < end {
				out = append(out, &part{start: at, end: end, gap: true, bad: true})
			}
		}
		k := sort.Search(len(m.parts), func(k int) bool { return m.parts[k].end > s.start })
		for ; k < len(m.parts) && m.parts[k].start < s.end; k++ {
			add(m.parts[k].start)
			at = m.parts[k].end
		}
		add(s.end)
	}
	m.parts = append(m.parts, out...)
	slices.SortFunc(m.parts, func(a, b *part) int { return cmp.Compare(a.start, b.start) })
}

func (m *image) partAt(a uint64) *part {
	i := sort.Search(len(m.parts), func(i int) bool { return m.parts[i].end > a })
	if i < len(m.parts) && m.parts[i].start <= a {
		return m.parts[i]
	}
	return nil
}

// instruction is a decoded instruction and where it lies in its part.
type instruction struct {
	x86.Inst
	off   uint32
	index uint32 // among those that are no padding; of padding: of what follows
}

// body decodes code from its first byte to its last; ok is false where it is
// not all instructions.
func body(code []byte) (out []instruction, count uint32, ok bool) {
	for o := 0; o < len(code); {
		in, err := x86.Decode(code[o:])
		if err != nil {
			return out, count, false
		}
		out = append(out, instruction{in, uint32(o), count})
		if in.Kind != x86.Nop {
			count++
		}
		o += int(in.Len)
	}
	return out, count, true
}

// indexOf is the number of the instruction at an offset, padding counted with
// what follows it, or -1.
func indexOf(list []instruction, off uint64) int {
	i := sort.Search(len(list), func(i int) bool { return uint64(list[i].off) >= off })
	if i < len(list) && uint64(list[i].off) == off {
		return int(list[i].index)
	}
	return -1
}

// decode reads the references of a part and hashes what is left of it when
// everything is taken out that says only where things lie.
func (m *image) decode(p *part) {
	code := m.bytes(p.start, p.end-p.start)
	list, count, ok := body(code)
	if p.bad = !ok; p.bad {
		p.refs = nil
		sum := sha256.Sum256(code)
		copy(p.hash[:], sum[:])
		return
	}
	p.count = int(count)
	var canon []byte
	for i := range list {
		in := &list[i]
		if in.Kind == x86.Nop {
			continue
		}
		p.jumps = p.jumps || in.Kind == x86.JmpInd && !in.RIP
		raw := code[in.off:][:in.Len]
		t := in.Target(p.start + uint64(in.off))
		inside := in.Relative() && !in.RIP && p.start <= t && t < p.end
		if in.Relative() && !inside {
			p.refs = append(p.refs, m.refOf(in, t))
		}
		if len(m.absolutes) > 0 {
			raw = m.plain(p, in, code)
			p.refs = append(p.refs, m.absoluteRefs(p, in)...)
		}
		switch {
		case inside:
			to := indexOf(list, t-p.start)
			canon = append(canon, byte(in.Kind), condition(in))
			canon = binary.LittleEndian.AppendUint32(canon, uint32(to))
		case in.Relative() && !in.RIP:
			canon = append(canon, byte(in.Kind), condition(in), 0xfe)
		case in.RIP:
			canon = append(canon, 0xfd, in.Len)
			canon = append(canon, raw[:in.DispOff]...)
			canon = append(canon, raw[in.DispOff+in.DispLen:]...)
		default:
			canon = append(canon, 0xfc, in.Len)
			canon = append(canon, raw...)
		}
	}
	sum := sha256.Sum256(canon)
	copy(p.hash[:], sum[:])
}

// condition is what a branch depends on, in either of its lengths.
func condition(in *instruction) byte {
	if in.Kind == x86.Jcc && (in.Map == 1 || in.Opcode&0xf0 == 0x70) {
		return in.Opcode & 0x0f
	}
	if in.Kind == x86.Jcc {
		return in.Opcode
	}
	return 0
}

func (m *image) refOf(in *instruction, target uint64) ref {
	r := ref{off: in.off, index: in.index, fieldOff: in.DispOff, field: in.DispLen, target: target}
	switch {
	case !in.RIP:
		r.use = flow
	case isLea(&in.Inst):
		r.use = address
	default:
		r.use, r.size = access, in.MemSize
	}
	return r
}

func isLea(in *x86.Inst) bool { return in.Map == 0 && in.Opcode == 0x8d && !in.VEX }
