package module

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// A program that is linked at a fixed address has addresses in its code and
// data that look like any other number. Where the linker kept its relocations
// (ld --emit-relocs) they say which fields those are; nothing else does for
// certain.

// Fixed reports whether the module is a program linked at a fixed address.
func (m *Module) Fixed() bool { return m.Type == elf.ET_EXEC }

// Uncertain says why the addresses in a program that is linked at a fixed
// address cannot be told from numbers; empty when they can, and for what is
// position-independent.
func (m *Module) Uncertain() string { return m.uncertain }

// fixedAddresses finds the addresses in a program at a fixed address: where the
// linker kept its relocations, in its own file or in the one apart. They say
// which fields of code hold an address; each pointer in data, which the loader
// need not touch, becomes a R_X86_64_RELATIVE.
func (m *Module) fixedAddresses(f *elf.File, apart func(*Module) []byte) error {
	m.absolutes = make(map[Addr]uint8)
	kept, err := m.keptRelocations(f)
	if err != nil {
		return err
	}
	if !kept && apart != nil {
		if data := apart(m); data != nil {
			g, err := ELF(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return fmt.Errorf("read its debug information: %w", err)
			}
			if kept, err = m.keptRelocations(g); err != nil {
				return fmt.Errorf("read its debug information: %w", err)
			}
		}
	}
	if !kept {
		m.doubt("has no relocations of its own")
	}
	if _, err := f.DynValue(elf.DT_SYMTAB); err != nil {
		m.doubt("is linked statically")
	}
	m.fixedSlots()
	m.indexRelocs()
	for i := range m.Symbols {
		if s := &m.Symbols[i]; s.Defined && s.Dynamic {
			if at, ok := m.relocAt[s.Addr]; ok && m.Relocs[at].Type == elf.R_X86_64_COPY {
				m.copied = append(m.copied, i)
			}
		}
	}
	return nil
}

// keptRelocations takes in the relocations of a file's sections, and reports
// whether those of the code are among them.
func (m *Module) keptRelocations(f *elf.File) (kept bool, err error) {
	syms, err := f.Symbols()
	if err != nil {
		return false, nil // nothing names what they are to
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC != 0 || int(s.Info) >= len(f.Sections) {
			continue
		}
		of := f.Sections[s.Info]
		if of.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		b, err := s.Data()
		if err != nil {
			return false, fmt.Errorf("read %s: %w", s.Name, err)
		}
		kept = kept || of.Name == ".text"
		for ; len(b) >= 24; b = b[24:] {
			info := binary.LittleEndian.Uint64(b[8:])
			i := info >> 32
			if i > uint64(len(syms)) {
				return false, fmt.Errorf("%s names symbol %d of %d", s.Name, i, len(syms))
			}
			var sym elf.Symbol // of nothing: index 0
			if i > 0 {
				sym = syms[i-1]
			}
			m.keep(of, Addr(binary.LittleEndian.Uint64(b)), elf.R_X86_64(uint32(info)), &sym, binary.LittleEndian.Uint64(b[16:]))
		}
	}
	return kept, nil
}

func (m *Module) doubt(format string, args ...any) {
	if m.uncertain == "" {
		m.uncertain = fmt.Sprintf(format, args...)
	}
}

// keep takes in one kept relocation of a section (psABI x86-64, table 4.10).
// What is relative, as a branch, is read from the instruction itself.
func (m *Module) keep(of *elf.Section, at Addr, typ elf.R_X86_64, sym *elf.Symbol, addend uint64) {
	size := uint8(4)
	if typ == elf.R_X86_64_GOTPCREL || typ == elf.R_X86_64_GOTPCRELX || typ == elf.R_X86_64_REX_GOTPCRELX {
		// A linker that made an address of a load of it may keep the old type (lld).
		b := m.Bytes(Range{at, at + 4})
		if b == nil || sym.Value == 0 || uint64(binary.LittleEndian.Uint32(b)) != sym.Value {
			return
		}
		typ, addend = elf.R_X86_64_32S, 0
	}
	switch typ {
	case elf.R_X86_64_64:
		size = 8
	case elf.R_X86_64_32, elf.R_X86_64_32S:
	case elf.R_X86_64_8, elf.R_X86_64_16:
		m.doubt("has addresses of less than 32 bits, at %v", at)
		return
	default:
		return
	}
	unwind := of.Name == ".eh_frame" || of.Name == ".gcc_except_table" // their encodings say what is an address
	b := m.Bytes(Range{at, at + Addr(size)})
	if b == nil || at < Addr(of.Addr) || at+Addr(size) > Addr(of.Addr+of.Size) {
		m.doubt("has a relocation at %v, outside its section", at)
		return
	}
	value := uint64(binary.LittleEndian.Uint32(b))
	if size == 8 {
		value = binary.LittleEndian.Uint64(b)
	}
	switch want := sym.Value + addend; {
	case sym.Section == elf.SHN_UNDEF && value == addend: // nobody has it (weak): a number
		return
	case size == 4 && value >= 1<<31, size == 4 && uint64(uint32(want)) != value, size == 8 && want != value:
		if elf.ST_TYPE(sym.Info) != elf.STT_GNU_IFUNC { // of those it is the linkage stub
			m.doubt("has other relocations: the field at %v does not hold what they say", at)
			return
		}
	}
	switch _, dynamic := m.relocAt[at]; {
	case of.Flags&elf.SHF_EXECINSTR != 0:
		m.absolutes[at] = size
	case unwind || dynamic:
	case size == 4:
		m.doubt("has 32-bit addresses in data, at %v", at)
	default:
		m.Relocs = append(m.Relocs, Reloc{Addr: at, Type: elf.R_X86_64_RELATIVE, Addend: int64(value)})
	}
}

// fixedSlots makes relocations of the slots that the linker filled for good:
// they hold addresses, or offsets of thread-local variables, which are negative.
func (m *Module) fixedSlots() {
	for i := range m.Sections {
		s := &m.Sections[i]
		if s.NoBits || s.Name != ".got" && s.Name != ".got.plt" {
			continue
		}
		for a := s.Start; a+8 <= s.End; a += 8 {
			v := Addr(binary.LittleEndian.Uint64(m.Bytes(Range{a, a + 8})))
			if _, dynamic := m.relocAt[a]; !dynamic && m.SectionAt(v) != nil {
				m.Relocs = append(m.Relocs, Reloc{Addr: a, Type: elf.R_X86_64_RELATIVE, Addend: int64(v)})
			}
		}
	}
}

// absolutesIn gives the fields in an instruction of n bytes at a that hold an
// address: their offsets, at most two.
func (m *Module) absolutesIn(a Addr, n uint8) (offs []uint8) {
	if len(m.absolutes) == 0 {
		return nil
	}
	for o := uint8(1); o < n; o++ {
		if m.absolutes[a+Addr(o)] != 0 {
			offs = append(offs, o)
		}
	}
	return offs
}

// absolute is the address in such a field.
func (m *Module) absolute(at Addr) Addr {
	b := m.Bytes(Range{at, at + Addr(m.absolutes[at])})
	if len(b) == 4 {
		return Addr(binary.LittleEndian.Uint32(b))
	}
	return Addr(binary.LittleEndian.Uint64(b))
}

// CopiedAt is the name of the object of another module that the loader moves to
// a (R_X86_64_COPY), which may lie inside it; empty when there is none.
func (m *Module) CopiedAt(a Addr) string {
	for i := range m.copied {
		if s := &m.Symbols[m.copied[i]]; s.Addr <= a && a-s.Addr < Addr(s.Size) {
			return s.Name
		}
	}
	return ""
}

// Canonical reports whether the linkage stub at a is what the address of its
// function is throughout the process: a program at a fixed address cannot hold
// the address that another module has of it (psABI x86-64, 5.2, Function
// Addresses).
func (m *Module) Canonical(a Addr) bool {
	for i := range m.Symbols {
		if s := &m.Symbols[i]; s.Dynamic && !s.Defined && s.Addr == a && a != 0 {
			return true
		}
	}
	return false
}
