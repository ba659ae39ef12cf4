// Package module reads a build of a program or shared library as a program:
// its functions with their parts, the instructions in them, and what each
// reference leads to. It works on stripped files: the map of functions is
// .eh_frame, to which symbols only add names. It knows nothing of comparing.
package module

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path"
	"sort"

	"hotpatch/internal/module/cfi"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 1 << 30

// ErrUnsupported wraps every reason for which a well-formed file cannot be
// read as a program that could be patched.
var ErrUnsupported = errors.New("unsupported module")

// A Segment is a PT_LOAD program header.
type Segment struct {
	Range        // as loaded: p_vaddr, p_memsz
	Off      Off // p_offset
	FileSize uint64
	Flags    elf.ProgFlag
}

// A Section is an allocated section.
type Section struct {
	Range
	Name   string
	Off    Off
	NoBits bool
	Write  bool
	Exec   bool
	TLS    bool
	Relro  bool // inside PT_GNU_RELRO: read-only once the loader is done
}

// A Symbol is one of .dynsym or .symtab.
type Symbol struct {
	Name    string
	Version string
	Addr    Addr
	Size    uint64
	Type    elf.SymType
	Defined bool
	Local   bool // STB_LOCAL
	Dynamic bool // from .dynsym
}

// A Module is one build, read.
type Module struct {
	Path     string
	Name     string // DT_SONAME, or the base name of Path
	Identity Identity
	Type     elf.Type
	Interp   bool // has PT_INTERP
	Start    Addr // of a program, where it begins (e_entry); 0 when none
	Segments []Segment
	Sections []Section
	Symbols  []Symbol
	Relocs   []Reloc // sorted by Addr
	CFI      *cfi.Table
	TLS      elf.ProgHeader // PT_TLS, zero when none
	Init     []Addr         // DT_INIT and DT_FINI

	Funcs []*Func // sorted by entry
	Gaps  []*Func // code outside any FDE, sorted

	stubs map[Addr]Addr // PLT stub -> GOT slot
	// Of a program at a fixed address: the fields of code that hold an address,
	// with their bytes, and why they may not be all.
	absolutes map[Addr]uint8
	uncertain string
	copied    []int // of Symbols, see CopiedAt
	relocAt   map[Addr]int
	anchors   []anchor // every address outside code that something refers to, sorted
	data      []byte
	spans     []span // all ranges of functions and gaps, sorted
}

type span struct {
	Range
	fn   *Func
	part int
}

// Open reads the file at path.
func Open(path string) (*Module, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > MaxSize {
		return nil, fmt.Errorf("%w: %s: not a regular file of at most %d bytes", ErrUnsupported, path, MaxSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return New(data, path)
}

// New reads a build from the bytes of its file; name is its path, for people.
// It keeps data.
func New(data []byte, name string) (*Module, error) { return NewApart(data, name, nil) }

// NewApart is New for a build whose relocations may be in a separate file of
// debug information, which is asked for where they are needed: apart gives its
// bytes, nil when there is none. The module has its path and identity then.
func NewApart(data []byte, name string, apart func(*Module) []byte) (*Module, error) {
	m, err := read(data, name, apart)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return m, nil
}

func read(data []byte, name string, apart func(*Module) []byte) (*Module, error) {
	f, err := ELF(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	m := &Module{Path: name, Name: path.Base(name), Type: f.Type, Start: Addr(f.Entry), data: data}
	if f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%w: architecture %v %v, not x86-64", ErrUnsupported, f.Machine, f.Class)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, fmt.Errorf("%w: ELF type %v is neither program nor shared library", ErrUnsupported, f.Type)
	}
	if m.Identity, err = ReadIdentity(bytes.NewReader(data), int64(len(data))); err != nil {
		return nil, err
	}
	if err := m.layout(f); err != nil {
		return nil, err
	}
	if err := m.symbols(f); err != nil {
		return nil, err
	}
	if err := m.relocations(f); err != nil {
		return nil, err
	}
	if m.Fixed() {
		if err := m.fixedAddresses(f, apart); err != nil {
			return nil, err
		}
	}
	m.findStubs()
	eh := m.Section(".eh_frame")
	if eh == nil {
		return nil, fmt.Errorf("%w: no .eh_frame: its functions cannot be told apart", ErrUnsupported)
	}
	if m.CFI, err = cfi.Parse(m.Bytes(eh.Range), uint64(eh.Start)); err != nil {
		return nil, fmt.Errorf("read .eh_frame: %w", err)
	}
	if err := m.functions(); err != nil {
		return nil, err
	}
	return m, nil
}

// maxAddr bounds the addresses of a build: user space of x86-64 with four levels
// of page tables (Linux, Documentation/arch/x86/x86_64/mm.rst). Sums and
// differences of what lies below do not overflow.
const maxAddr Addr = 1 << 47

func (m *Module) layout(f *elf.File) error {
	var relro Range
	for _, p := range f.Progs {
		r := Range{Addr(p.Vaddr), Addr(p.Vaddr + p.Memsz)}
		switch p.Type {
		case elf.PT_LOAD:
			if r.End < r.Start || r.End > maxAddr || p.Filesz > p.Memsz || p.Off > uint64(len(m.data)) || p.Filesz > uint64(len(m.data))-p.Off {
				return fmt.Errorf("program header at %v leads out of the file or address space", r.Start)
			}
			m.Segments = append(m.Segments, Segment{r, Off(p.Off), p.Filesz, p.Flags})
		case elf.PT_GNU_RELRO:
			relro = r
		case elf.PT_INTERP:
			m.Interp = true
		case elf.PT_TLS:
			m.TLS = p.ProgHeader
		}
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Size == 0 {
			continue
		}
		sec := Section{
			Range: Range{Addr(s.Addr), Addr(s.Addr + s.Size)}, Name: s.Name, Off: Off(s.Offset),
			NoBits: s.Type == elf.SHT_NOBITS,
			Write:  s.Flags&elf.SHF_WRITE != 0, Exec: s.Flags&elf.SHF_EXECINSTR != 0, TLS: s.Flags&elf.SHF_TLS != 0,
		}
		if sec.End < sec.Start || sec.End > maxAddr || !sec.NoBits && (s.Offset > uint64(len(m.data)) || s.FileSize > uint64(len(m.data))-s.Offset) {
			return fmt.Errorf("section %s leads out of the file or address space", s.Name)
		}
		if !sec.NoBits && m.Bytes(sec.Range) == nil {
			return fmt.Errorf("section %s lies in no segment", s.Name)
		}
		sec.Relro = sec.Write && relro.Contains(sec.Start)
		m.Sections = append(m.Sections, sec)
	}
	if len(m.Sections) == 0 {
		return fmt.Errorf("%w: no section headers", ErrUnsupported)
	}
	// .tbss occupies no addresses; the section after it may start at the same place.
	sort.SliceStable(m.Sections, func(i, j int) bool { return m.Sections[i].Start < m.Sections[j].Start })
	var end Addr
	for i := range m.Sections {
		switch s := &m.Sections[i]; {
		case s.TLS && s.NoBits:
		case s.Start < end:
			return fmt.Errorf("section %s lies in the one before it", s.Name)
		default:
			end = s.End
		}
	}
	if names, err := f.DynString(elf.DT_SONAME); err == nil && len(names) == 1 {
		m.Name = path.Base(names[0])
	}
	for _, tag := range []elf.DynTag{elf.DT_INIT, elf.DT_FINI} {
		if v, err := f.DynValue(tag); err == nil && len(v) == 1 {
			m.Init = append(m.Init, Addr(v[0]))
		}
	}
	return nil
}

func (m *Module) symbols(f *elf.File) error {
	dyn, err := f.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return fmt.Errorf("read .dynsym: %w", err)
	}
	static, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return fmt.Errorf("read .symtab: %w", err)
	}
	for i, list := range [][]elf.Symbol{dyn, static} {
		for _, s := range list {
			m.Symbols = append(m.Symbols, Symbol{
				Name: s.Name, Version: s.Version, Addr: Addr(s.Value), Size: s.Size,
				Type: elf.ST_TYPE(s.Info), Defined: s.Section != elf.SHN_UNDEF,
				Local: elf.ST_BIND(s.Info) == elf.STB_LOCAL, Dynamic: i == 0,
			})
		}
	}
	return nil
}

// File is the bytes of the file, which are not to be changed.
func (m *Module) File() []byte { return m.data }

// Section is the allocated section of that name, or nil.
func (m *Module) Section(name string) *Section {
	for i := range m.Sections {
		if m.Sections[i].Name == name {
			return &m.Sections[i]
		}
	}
	return nil
}

// SectionAt is the section that holds a, or nil. A TLS template that occupies
// no addresses (.tbss) holds none.
func (m *Module) SectionAt(a Addr) *Section {
	i := sort.Search(len(m.Sections), func(i int) bool { return m.Sections[i].Start > a })
	for i--; i >= 0; i-- {
		s := &m.Sections[i]
		if s.TLS && s.NoBits {
			continue
		}
		if s.Contains(a) {
			return s
		}
		return nil
	}
	return nil
}

// Bytes is what the file holds for a range; nil unless one segment holds all of it in the file.
func (m *Module) Bytes(r Range) []byte {
	for _, s := range m.Segments {
		if s.Start <= r.Start && r.Start <= r.End && r.End <= s.Start+Addr(s.FileSize) {
			o := uint64(s.Off) + uint64(r.Start-s.Start)
			return m.data[o : o+r.Len() : o+r.Len()]
		}
	}
	return nil
}

// ImageEnd is the first address after the last segment.
func (m *Module) ImageEnd() Addr {
	var end Addr
	for _, s := range m.Segments {
		end = max(end, s.End)
	}
	return end
}
