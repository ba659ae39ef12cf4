package check

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"hotpatch/internal/patch"
)

// absolute is a field of code that holds an address, in a program that is
// linked at a fixed address.
type absolute struct {
	off, size uint8 // in the instruction; bytes
	to        uint64
}

// slot marks the relocations of loads from the GOT.
const slot = 0x80

// sizes are the bytes of the fields of relocations that may hold an address
// (psABI x86-64, table 4.10).
var sizes = map[elf.R_X86_64]uint8{
	elf.R_X86_64_64: 8, elf.R_X86_64_32: 4, elf.R_X86_64_32S: 4,
	elf.R_X86_64_GOTPCREL: 4 | slot, elf.R_X86_64_GOTPCRELX: 4 | slot, elf.R_X86_64_REX_GOTPCRELX: 4 | slot,
}

// readAbsolutes reads the relocations that the linker kept of a program at a
// fixed address (ld --emit-relocs): which fields of its code hold addresses,
// and which words of its data are pointers.
func (m *image) readAbsolutes(f *elf.File) error {
	m.absolutes = make(map[uint64]uint8)
	syms, err := f.Symbols()
	if err != nil {
		return fmt.Errorf("a program at a fixed address without its relocations: %w", err)
	}
	code := false
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC != 0 || int(s.Info) >= len(f.Sections) {
			continue
		}
		of := f.Sections[s.Info]
		b, err := s.Data()
		if err != nil {
			return fmt.Errorf("read %s: %w", s.Name, err)
		}
		exec := of.Flags&elf.SHF_EXECINSTR != 0
		code = code || exec && of.Name == ".text"
		if of.Flags&elf.SHF_ALLOC == 0 || of.Name == ".eh_frame" || of.Name == ".gcc_except_table" {
			continue
		}
		for ; len(b) >= 24; b = b[24:] {
			at, info := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
			size := sizes[elf.R_X86_64(uint32(info))]
			field := m.bytes(at, uint64(size&^slot))
			if size&slot != 0 {
				// Perhaps an address by now, of what the slot held (lld keeps the type).
				if i := info >> 32; i == 0 || i > uint64(len(syms)) || field == nil || number(field) != syms[i-1].Value {
					continue
				}
				size &^= slot
			}
			if i := info >> 32; i == 0 || i > uint64(len(syms)) || size == 0 || field == nil {
				continue
			} else if syms[i-1].Section == elf.SHN_UNDEF && number(field) == binary.LittleEndian.Uint64(b[16:]) {
				continue // nobody has the symbol
			}
			switch _, loader := m.relocAt[at]; {
			case exec:
				m.absolutes[at] = size
			case size == 4:
				return fmt.Errorf("a 32-bit address at %#x of data", at)
			case !loader:
				m.relocs = append(m.relocs, reloc{at: at, typ: elf.R_X86_64_RELATIVE, addend: int64(number(field))})
			}
		}
	}
	if !code {
		return errors.New("a program at a fixed address without its relocations")
	}
	for _, name := range []string{".got", ".got.plt"} { // what the linker filled for good
		s := m.sectionNamed(name)
		for a := uint64(0); s != nil && a+8 <= s.end-s.start; a += 8 {
			v := number(m.bytes(s.start+a, 8))
			if _, loader := m.relocAt[s.start+a]; !loader && m.section(v) != nil {
				m.relocs = append(m.relocs, reloc{at: s.start + a, typ: elf.R_X86_64_RELATIVE, addend: int64(v)})
			}
		}
	}
	return nil
}

// number is an unsigned number of up to 8 bytes.
func number(b []byte) uint64 {
	var n uint64
	for i, c := range b {
		n |= uint64(c) << (8 * i)
	}
	return n
}

// absolutesIn are the fields of an instruction of n bytes at a that hold addresses.
func (m *image) absolutesIn(a uint64, n uint8) (out []absolute) {
	for o := uint8(1); o < n && len(m.absolutes) > 0; o++ {
		if size := m.absolutes[a+uint64(o)]; size != 0 && o+size <= n {
			out = append(out, absolute{o, size, number(m.bytes(a+uint64(o), uint64(size)))})
		}
	}
	return out
}

// plain is an instruction of a part with zeros for the addresses in it.
func (m *image) plain(p *part, in *instruction, code []byte) []byte {
	raw := code[in.off:][:in.Len]
	list := m.absolutesIn(p.start+uint64(in.off), in.Len)
	if len(list) > 0 {
		raw = bytes.Clone(raw)
	}
	for _, x := range list {
		clear(raw[x.off:][:x.size])
	}
	return raw
}

// absoluteRefs are what the fields of an instruction refer to. Of an operand
// with a register, table(,%rax,8), it is an address that is taken.
func (m *image) absoluteRefs(p *part, in *instruction) (out []ref) {
	for _, x := range m.absolutesIn(p.start+uint64(in.off), in.Len) {
		r := ref{off: in.off, index: in.index, fieldOff: x.off, field: x.size, use: address, target: x.to, absolute: true}
		if x.off == in.DispOff && in.DispLen > 0 && !isLea(&in.Inst) && in.HasSIB && in.ModRM>>6 == 0 && in.SIB == 0x25 {
			r.use, r.size = access, in.MemSize
		}
		out = append(out, r)
	}
	return out
}

// followAbsolute holds the addresses in an instruction against the fixed build's.
func (c *checker) followAbsolute(m *moved, in *instruction) {
	for _, r := range c.fixed.absoluteRefs(m.part, in) {
		field := m.to + overlayBias + uint64(in.off) + uint64(r.fieldOff)
		to := number(c.overlay(field, uint64(r.field)))
		c.fields[field] = to
		if l := c.links[field]; l != nil {
			l.used = true
		} else {
			c.fault(Fixup, "the address in the field at %#x of the overlay has none", field-overlayBias)
			continue
		}
		if c.settle(c.leads(r.target, to, r.use, uint64(r.size), m.part)) {
			c.report.Proved.References++
		}
	}
}

// numbers are bytes of constants, with zeros for the pointers among them.
func (m *image) numbers(a, n uint64) []byte {
	b := m.bytes(a, n)
	return withoutPointers(b, a, m.relocsIn(a, a+n))
}

func withoutPointers(b []byte, a uint64, list []reloc) []byte {
	if len(list) == 0 || b == nil {
		return b
	}
	b = bytes.Clone(b)
	for i := range list {
		at := b[list[i].at-a:]
		clear(at[:min(8, len(at))])
	}
	return b
}

// numbersAt are the same of the process.
func (c *checker) numbersAt(a, n uint64) []byte {
	b := c.memory(a, n)
	return withoutPointers(b, a, c.pointersAt(a, n))
}

// pointersAt are the pointers among constants of the process: of the overlay
// those that fixups fill, of the baseline those of its relocations.
func (c *checker) pointersAt(a, n uint64) (out []reloc) {
	if c.pieceAt(a) == nil {
		if a < baseBias {
			return nil
		}
		for _, r := range c.old.relocsIn(a-baseBias, a-baseBias+n) {
			to, _ := r.leads()
			out = append(out, reloc{at: r.at + baseBias, addend: int64(to + baseBias)})
		}
		return out
	}
	for k := a; k < a+n; k++ {
		if l := c.links[k]; l != nil && l.fixup.Size() == 8 && l.fixup.Kind != patch.AbsImport {
			out = append(out, reloc{at: k, addend: int64(number(c.overlay(k, 8)))})
		}
	}
	return out
}

// placedAlike reports whether n bytes of constants have pointers at the same places.
func (c *checker) placedAlike(q *question, n uint64) bool {
	return slices.EqualFunc(c.fixed.relocsIn(q.want, q.want+n), c.pointersAt(q.got, n), func(x, y reloc) bool { return x.at-q.want == y.at-q.got })
}

// copied is a constant that comes along: where it is in the process and in the
// fixed build.
type copied struct{ got, want uint64 }

// followCopies holds the pointers in constants that come along against the fixed
// build's where no reference leads: a copy may reach further than what is used.
func (c *checker) followCopies() {
	slices.SortFunc(c.copies, func(a, b copied) int { return cmp.Compare(a.got, b.got) })
	for grew := true; grew; {
		grew = false
		for at, l := range c.links {
			if l.used || l.fixup.Kind != patch.AbsBaseline && l.fixup.Kind != patch.AbsOverlay {
				continue
			}
			i := sort.Search(len(c.copies), func(i int) bool { return c.copies[i].got > at }) - 1
			if i < 0 || c.pieceAt(c.copies[i].got) != c.pieceAt(at) {
				continue
			}
			want := c.copies[i].want + (at - c.copies[i].got)
			k, ok := c.fixed.relocAt[want]
			if !ok || c.fixed.section(want) != c.fixed.section(c.copies[i].want) {
				continue
			}
			to, _ := c.fixed.relocs[k].leads()
			c.at("constants", want)
			o := c.ask(question{to, number(c.overlay(at, 8)), address, 0, nil, false})
			l.used, grew = o.state != wrong, grew || o.state != wrong
			c.settle(o)
		}
	}
}

// samePointers answers for the pointers among n bytes of constants.
func (c *checker) samePointers(q *question, n uint64) outcome {
	want, got := c.fixed.relocsIn(q.want, q.want+n), c.pointersAt(q.got, n)
	if len(want) != len(got) {
		return bad(Constant, "%d pointers are in it, not %d", len(got), len(want))
	}
	for i := range want {
		to, _ := want[i].leads()
		if want[i].at-q.want != got[i].at-q.got {
			return bad(Constant, "the pointer at %#x is elsewhere in it", want[i].at)
		}
		if l := c.links[got[i].at]; l != nil {
			l.used = true
		}
		if o := c.ask(question{to, uint64(got[i].addend), address, 0, nil, q.stays}); o.state != proved {
			o.code, o.detail = Constant, fmt.Sprintf("the pointer at %#x: %s", want[i].at, o.detail)
			return o
		}
	}
	return outcome{}
}
