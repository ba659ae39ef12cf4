package module

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"hotpatch/internal/module/x86"
)

// A Reloc is one dynamic relocation, as the loader applies it (System V psABI
// x86-64, table 4.10). RELR entries appear as R_X86_64_RELATIVE.
type Reloc struct {
	Addr    Addr
	Type    elf.R_X86_64
	Sym     string // symbol name, empty when none
	Version string
	Local   Addr  // of the symbol when this module defines it
	Addend  int64 // of RELATIVE and IRELATIVE: the image address
}

// Size is the number of bytes at Addr that the loader writes.
func (r Reloc) Size() Addr {
	if r.Type == elf.R_X86_64_TLSDESC {
		return 16
	}
	return 8
}

func (m *Module) relocations(f *elf.File) error {
	var dyn []Symbol
	for _, s := range m.Symbols {
		if s.Dynamic {
			dyn = append(dyn, s)
		}
	}
	table := func(addrTag, sizeTag elf.DynTag) ([]byte, error) {
		a, errA := f.DynValue(addrTag)
		n, errN := f.DynValue(sizeTag)
		if errA != nil || errN != nil || len(a) != 1 || len(n) != 1 || n[0] == 0 {
			return nil, nil
		}
		b := m.Bytes(Range{Addr(a[0]), Addr(a[0] + n[0])})
		if b == nil {
			return nil, fmt.Errorf("relocations at %#x lead out of the file", a[0])
		}
		return b, nil
	}
	rela := func(addrTag, sizeTag elf.DynTag) error {
		b, err := table(addrTag, sizeTag)
		if err != nil {
			return err
		}
		for ; len(b) >= 24; b = b[24:] {
			info := binary.LittleEndian.Uint64(b[8:])
			r := Reloc{
				Addr: Addr(binary.LittleEndian.Uint64(b)), Type: elf.R_X86_64(uint32(info)),
				Addend: int64(binary.LittleEndian.Uint64(b[16:])),
			}
			if i := info >> 32; i != 0 {
				if i > uint64(len(dyn)) {
					return fmt.Errorf("relocation at %v names symbol %d of %d", r.Addr, i, len(dyn))
				}
				s := dyn[i-1]
				r.Sym, r.Version = s.Name, s.Version
				if s.Defined {
					r.Local = s.Addr
				}
			}
			m.Relocs = append(m.Relocs, r)
		}
		return nil
	}
	if err := rela(elf.DT_RELA, elf.DT_RELASZ); err != nil {
		return err
	}
	if err := rela(elf.DT_JMPREL, elf.DT_PLTRELSZ); err != nil {
		return err
	}
	const dtRELRSZ, dtRELR = 35, 36 // gABI, Dynamic Section
	b, err := table(dtRELR, dtRELRSZ)
	if err != nil {
		return err
	}
	m.relr(b)
	m.indexRelocs()
	return nil
}

func (m *Module) indexRelocs() {
	sort.Slice(m.Relocs, func(i, j int) bool { return m.Relocs[i].Addr < m.Relocs[j].Addr })
	m.Relocs = slices.CompactFunc(m.Relocs, func(a, b Reloc) bool { return a.Addr == b.Addr && a.Type == b.Type })
	m.relocAt = make(map[Addr]int, len(m.Relocs))
	for i, r := range m.Relocs {
		m.relocAt[r.Addr] = i
	}
}

// relr decodes the packed relative relocations (gABI, Relative Relocation Table).
func (m *Module) relr(b []byte) {
	var next Addr
	add := func(a Addr) {
		if v := m.Bytes(Range{a, a + 8}); v != nil {
			m.Relocs = append(m.Relocs, Reloc{Addr: a, Type: elf.R_X86_64_RELATIVE, Addend: int64(binary.LittleEndian.Uint64(v))})
		}
	}
	for ; len(b) >= 8; b = b[8:] {
		e := binary.LittleEndian.Uint64(b)
		if e&1 == 0 {
			add(Addr(e))
			next = Addr(e) + 8
			continue
		}
		for i := Addr(0); i < 63; i++ {
			if e>>(i+1)&1 != 0 {
				add(next + 8*i)
			}
		}
		next += 63 * 8
	}
}

// RelocAt is the relocation at exactly a.
func (m *Module) RelocAt(a Addr) (Reloc, bool) {
	i, ok := m.relocAt[a]
	if !ok {
		return Reloc{}, false
	}
	return m.Relocs[i], true
}

// RelocsIn are the relocations whose place lies in r.
func (m *Module) RelocsIn(r Range) []Reloc {
	lo := sort.Search(len(m.Relocs), func(i int) bool { return m.Relocs[i].Addr >= r.Start })
	hi := sort.Search(len(m.Relocs), func(i int) bool { return m.Relocs[i].Addr >= r.End })
	return m.Relocs[lo:hi]
}

// Leads is the image address that the loader stores for a relocation to
// something of this module, and false for what lies elsewhere.
func (r Reloc) Leads() (Addr, bool) {
	switch r.Type {
	case elf.R_X86_64_RELATIVE:
		return Addr(r.Addend), true
	case elf.R_X86_64_64, elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT:
		if r.Local != 0 {
			return r.Local + Addr(r.Addend), true
		}
	}
	return 0, false
}

// isPLT tells the sections of linkage stubs by name: .plt, .plt.sec, .plt.got, .iplt.
func (s *Section) isPLT() bool {
	return s.Exec && (s.Name == ".plt" || s.Name == ".plt.sec" || s.Name == ".plt.got" || s.Name == ".iplt")
}

// findStubs reads the stubs of the procedure linkage table: an optional
// endbr64, then an indirect jump through the slot (psABI x86-64, figure 5.2).
func (m *Module) findStubs() {
	m.stubs = make(map[Addr]Addr)
	for i := range m.Sections {
		s := &m.Sections[i]
		if !s.isPLT() {
			continue
		}
		code := m.Bytes(s.Range)
		for o := 0; o < len(code); o += 8 {
			at := o
			in, err := x86.Decode(code[at:])
			if err == nil && in.Kind == x86.Endbr {
				at += int(in.Len)
				in, err = x86.Decode(code[at:])
			}
			if err == nil && in.Kind == x86.JmpInd && in.RIP {
				m.stubs[s.Start+Addr(o)] = Addr(in.Target(uint64(s.Start) + uint64(at)))
			}
		}
	}
}

// Stub is the slot through which the linkage stub at a jumps.
func (m *Module) Stub(a Addr) (slot Addr, ok bool) {
	slot, ok = m.stubs[a]
	return slot, ok
}

// Stubs are all linkage stubs, by address, with their slots.
func (m *Module) Stubs() map[Addr]Addr { return m.stubs }
