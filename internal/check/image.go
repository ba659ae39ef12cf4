package check

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"hotpatch/internal/module/x86"
)

// section is a stretch of an image that is loaded.
type section struct {
	name                string
	start, end, align   uint64
	write, exec, nobits bool
	copies              [2]uint64 // from and to, see findCopies
	relro               bool      // read-only once the loader is done
}

// reloc is one thing that the loader does to an image.
type reloc struct {
	at           uint64
	typ          elf.R_X86_64
	sym, version string
	local        uint64 // of the symbol, when the image defines it
	addend       int64
}

// object is a named stretch of data.
type object struct {
	key        string
	start, end uint64
	weak       bool // compilers number such names anew in each build
}

// image is one of the two builds, as far as the proof needs it.
type image struct {
	data     []byte
	loads    []elf.ProgHeader
	tls      elf.ProgHeader
	buildID  string
	digest   string
	named    bool // has .symtab
	lazy     bool // functions may be bound at their first call
	sections []section
	relocs   []reloc // by at
	relocAt  map[uint64]int
	// absolutes are the fields of code that hold an address, with their bytes,
	// of a program at a fixed address.
	absolutes map[uint64]uint8
	funcs     map[string]uint64 // names of code, unique ones
	exports   map[string]elf.Symbol
	objects   []object // by start
	reach     []uint64 // the largest end of an object up to each
	byKey     map[string]int
	labels    map[uint64][]string // names without a size, as the linker makes them
	threads   map[string]uint64   // thread-local variables
	parts     []*part             // by start
	anchors   []uint64            // addresses of data that something refers to, sorted
}

// maxImage bounds the memory that one segment of a build may ask for.
const maxImage = 1 << 32

func readImage(data []byte) (*image, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_DYN && f.Type != elf.ET_EXEC {
		return nil, errors.New("not an x86-64 program or library")
	}
	m := &image{data: data, relocAt: make(map[uint64]int), lazy: true}
	if err := m.segments(f); err != nil {
		return nil, err
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Size == 0 || s.Flags&elf.SHF_TLS != 0 && s.Type == elf.SHT_NOBITS {
			continue
		}
		m.sections = append(m.sections, section{
			s.Name, s.Addr, s.Addr + s.Size, max(s.Addralign, 1),
			s.Flags&elf.SHF_WRITE != 0, s.Flags&elf.SHF_EXECINSTR != 0, s.Type == elf.SHT_NOBITS,
			[2]uint64{},
			slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool {
				return p.Type == elf.PT_GNU_RELRO && s.Addr >= p.Vaddr && s.Addr-p.Vaddr < p.Memsz
			}),
		})
	}
	slices.SortFunc(m.sections, func(a, b section) int { return cmp.Compare(a.start, b.start) })
	dyn, err := f.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	if err := m.relocations(f, dyn); err != nil {
		return nil, err
	}
	m.names(f, dyn)
	m.findCopies()
	for _, tag := range []elf.DynTag{elf.DT_FLAGS, elf.DT_FLAGS_1} {
		const bindNow, now = 8, 1
		v, err := f.DynValue(tag)
		if err == nil && len(v) == 1 && (tag == elf.DT_FLAGS && v[0]&bindNow != 0 || tag == elf.DT_FLAGS_1 && v[0]&now != 0) {
			m.lazy = false
		}
	}
	if err := m.readParts(); err != nil {
		return nil, err
	}
	m.findAnchors()
	return m, nil
}

// segments reads the program headers and what identifies the build.
func (m *image) segments(f *elf.File) error {
	h := sha256.New()
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_TLS:
			m.tls = p.ProgHeader
		case elf.PT_NOTE:
			if m.buildID == "" && p.Off+p.Filesz <= uint64(len(m.data)) && p.Off <= p.Off+p.Filesz {
				m.buildID = buildID(m.data[p.Off:p.Off+p.Filesz], p.Align)
			}
		case elf.PT_LOAD:
			if p.Off > uint64(len(m.data)) || p.Filesz > uint64(len(m.data))-p.Off || p.Memsz < p.Filesz || p.Memsz > maxImage || p.Vaddr > maxImage {
				return fmt.Errorf("segment at %#x leads out of the file", p.Vaddr)
			}
			for _, v := range []uint64{p.Vaddr, p.Filesz, p.Memsz, uint64(p.Flags)} {
				h.Write(binary.LittleEndian.AppendUint64(nil, v))
			}
			h.Write(m.data[p.Off : p.Off+p.Filesz])
			m.loads = append(m.loads, p.ProgHeader)
		}
	}
	m.digest = hex.EncodeToString(h.Sum(nil))
	return nil
}

// buildID finds NT_GNU_BUILD_ID among notes.
func buildID(b []byte, align uint64) string {
	pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
	if align == 8 {
		pad = func(n uint64) uint64 { return (n + 7) &^ 7 }
	}
	for len(b) >= 12 {
		name, desc := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
		from := pad(12 + name)
		if from+desc > uint64(len(b)) {
			return ""
		}
		if binary.LittleEndian.Uint32(b[8:]) == 3 && string(b[12:12+name]) == "GNU\x00" {
			return hex.EncodeToString(b[from : from+desc])
		}
		b = b[min(uint64(len(b)), pad(from+desc)):]
	}
	return ""
}

// bytes are n bytes of the image as it is mapped, before relocation; nil where
// it has none.
func (m *image) bytes(a, n uint64) []byte {
	for i := range m.loads {
		p := &m.loads[i]
		if a < p.Vaddr || a-p.Vaddr >= p.Memsz || n > p.Memsz-(a-p.Vaddr) {
			continue
		}
		o := a - p.Vaddr
		if o+n <= p.Filesz {
			return m.data[p.Off+o:][:n]
		}
		b := make([]byte, n)
		if o < p.Filesz {
			copy(b, m.data[p.Off+o:p.Off+p.Filesz])
		}
		return b
	}
	return nil
}

// outside reports whether an address lies in no segment.
func (m *image) outside(a uint64) bool {
	return !slices.ContainsFunc(m.loads, func(p elf.ProgHeader) bool { return a >= p.Vaddr && a-p.Vaddr <= p.Memsz })
}

func (m *image) section(a uint64) *section {
	i := sort.Search(len(m.sections), func(i int) bool { return m.sections[i].end > a })
	if i < len(m.sections) && m.sections[i].start <= a {
		return &m.sections[i]
	}
	return nil
}

func (m *image) sectionNamed(name string) *section {
	for i := range m.sections {
		if m.sections[i].name == name {
			return &m.sections[i]
		}
	}
	return nil
}

func (m *image) relocations(f *elf.File, dyn []elf.Symbol) error {
	const shtRelr = 19 // gABI, Relative Relocation Table
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type != elf.SHT_RELA && s.Type != shtRelr {
			continue
		}
		b, err := s.Data()
		if err != nil {
			return fmt.Errorf("read %s: %w", s.Name, err)
		}
		if s.Type == shtRelr {
			m.packed(b)
			continue
		}
		for ; len(b) >= 24; b = b[24:] {
			info := binary.LittleEndian.Uint64(b[8:])
			r := reloc{at: binary.LittleEndian.Uint64(b), typ: elf.R_X86_64(uint32(info)), addend: int64(binary.LittleEndian.Uint64(b[16:]))}
			if i := info >> 32; i > uint64(len(dyn)) {
				return fmt.Errorf("relocation at %#x names symbol %d of %d", r.at, i, len(dyn))
			} else if i > 0 {
				d := &dyn[i-1]
				r.sym, r.version = d.Name, d.Version
				if d.Section != elf.SHN_UNDEF {
					r.local = d.Value
				}
			}
			m.relocs = append(m.relocs, r)
		}
	}
	m.sortRelocs()
	if f.Type == elf.ET_EXEC {
		if err := m.readAbsolutes(f); err != nil {
			return err
		}
		m.sortRelocs()
	}
	return nil
}

func (m *image) sortRelocs() {
	slices.SortStableFunc(m.relocs, func(a, b reloc) int { return cmp.Compare(a.at, b.at) })
	for i, r := range m.relocs {
		m.relocAt[r.at] = i
	}
}

// packed reads relative relocations in the form of DT_RELR.
func (m *image) packed(b []byte) {
	var next uint64
	add := func(a uint64) {
		if v := m.bytes(a, 8); v != nil {
			m.relocs = append(m.relocs, reloc{at: a, typ: elf.R_X86_64_RELATIVE, addend: int64(binary.LittleEndian.Uint64(v))})
		}
	}
	for ; len(b) >= 8; b = b[8:] {
		e := binary.LittleEndian.Uint64(b)
		if e&1 == 0 {
			add(e)
			next = e + 8
			continue
		}
		for i := range uint64(63) {
			if e>>(i+1)&1 != 0 {
				add(next + 8*i)
			}
		}
		next += 63 * 8
	}
}

// findCopies notes which stretch of each section has the objects of other
// modules that the loader moves there (R_X86_64_COPY).
func (m *image) findCopies() {
	for _, r := range m.relocs {
		s := m.section(r.at)
		if r.typ != elf.R_X86_64_COPY || s == nil {
			continue
		}
		if s.copies[1] == 0 {
			s.copies[0] = r.at
		}
		for _, x := range m.objectsAt(r.at) {
			s.copies[1] = max(s.copies[1], x.end)
		}
	}
}

// leads is the address of the image that the loader stores, if it is one.
func (r *reloc) leads() (uint64, bool) {
	switch r.typ {
	case elf.R_X86_64_RELATIVE:
		return uint64(r.addend), true
	case elf.R_X86_64_64, elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT:
		return r.local + uint64(r.addend), r.local != 0
	}
	return 0, false
}

// relocsIn are the relocations from a up to b.
func (m *image) relocsIn(a, b uint64) []reloc {
	lo := sort.Search(len(m.relocs), func(i int) bool { return m.relocs[i].at >= a })
	hi := sort.Search(len(m.relocs), func(i int) bool { return m.relocs[i].at >= b })
	return m.relocs[lo:max(lo, hi)]
}

// stub is the slot that the linkage stub at a jumps through.
func (m *image) stub(a uint64) (uint64, bool) {
	s := m.section(a)
	if s == nil || !s.exec || !strings.HasPrefix(s.name, ".plt") && s.name != ".iplt" {
		return 0, false
	}
	return stubIn(m.bytes(a, min(16, s.end-a)), a)
}

// stubIn decodes a linkage stub: perhaps endbr64, then a jump through a slot
// (psABI x86-64, figure 5.2).
func stubIn(code []byte, a uint64) (uint64, bool) {
	in, err := x86.Decode(code)
	if err == nil && in.Kind == x86.Endbr {
		code, a = code[in.Len:], a+uint64(in.Len)
		in, err = x86.Decode(code)
	}
	if err != nil || in.Kind != x86.JmpInd || !in.RIP {
		return 0, false
	}
	return in.Target(a), true
}

var numbered = regexp.MustCompile(`\.\d+$`)

// names reads who is who, where a build says so.
func (m *image) names(f *elf.File, dyn []elf.Symbol) {
	m.funcs, m.exports = make(map[string]uint64), make(map[string]elf.Symbol)
	m.byKey, m.labels, m.threads = make(map[string]int), make(map[uint64][]string), make(map[string]uint64)
	twice := make(map[string]bool)
	add := func(key string, s *elf.Symbol) {
		sec := m.section(s.Value)
		switch {
		case s.Name == "" || s.Section == elf.SHN_UNDEF:
		case elf.ST_TYPE(s.Info) == elf.STT_TLS:
			if _, ok := m.threads[key]; ok {
				twice["tls"+key] = true
			}
			m.threads[key] = s.Value
		case sec != nil && sec.exec:
			if a, ok := m.funcs[key]; ok && a != s.Value {
				twice[key] = true
			}
			m.funcs[key] = s.Value
		case elf.ST_TYPE(s.Info) == elf.STT_OBJECT && s.Size > 0 && s.Size < maxImage:
			m.objects = append(m.objects, object{key, s.Value, s.Value + s.Size, numbered.MatchString(s.Name)})
		case elf.ST_TYPE(s.Info) == elf.STT_NOTYPE:
			m.labels[s.Value] = append(m.labels[s.Value], key)
		}
	}
	for i := range dyn {
		s := &dyn[i]
		key := "dynamic " + s.Name + "@" + s.Version
		add(key, s)
		if s.Section != elf.SHN_UNDEF && s.Name != "" {
			m.exports[key] = *s
		}
	}
	all, _ := f.Symbols()
	m.named = len(all) > 0
	file := ""
	for i := range all {
		s := &all[i]
		if elf.ST_TYPE(s.Info) == elf.STT_FILE {
			file = s.Name
			continue
		}
		key := s.Name
		if elf.ST_BIND(s.Info) == elf.STB_LOCAL {
			key = file + ":" + s.Name
		}
		add(key, s)
	}
	slices.SortStableFunc(m.objects, func(a, b object) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end)) })
	far := uint64(0)
	for i, o := range m.objects {
		far = max(far, o.end)
		m.reach = append(m.reach, far)
		if k, ok := m.byKey[o.key]; ok && m.objects[k].start != o.start {
			twice["object"+o.key] = true
		}
		m.byKey[o.key] = i
	}
	for key := range twice {
		delete(m.funcs, key)
		if k, ok := strings.CutPrefix(key, "object"); ok {
			delete(m.byKey, k)
		}
		if k, ok := strings.CutPrefix(key, "tls"); ok {
			delete(m.threads, k)
		}
	}
}

// objectsAt are the named objects that hold a.
func (m *image) objectsAt(a uint64) []object {
	var out []object
	i := sort.Search(len(m.objects), func(i int) bool { return m.objects[i].start > a })
	for i--; i >= 0 && len(out) < 8 && m.reach[i] > a; i-- {
		if a < m.objects[i].end {
			out = append(out, m.objects[i])
		}
	}
	return out
}

// findAnchors gathers the addresses of data that code, pointers and names lead to.
func (m *image) findAnchors() {
	for _, p := range m.parts {
		for i := range p.refs {
			m.anchors = append(m.anchors, p.refs[i].target)
		}
	}
	for i := range m.relocs {
		if a, ok := m.relocs[i].leads(); ok {
			m.anchors = append(m.anchors, a)
		}
	}
	for i := range m.objects {
		m.anchors = append(m.anchors, m.objects[i].start, m.objects[i].end)
	}
	slices.Sort(m.anchors)
	m.anchors = slices.Compact(m.anchors)
}

// next is the first address behind a that something refers to, at most the end of the section.
func (m *image) next(a uint64) uint64 {
	s := m.section(a)
	if s == nil {
		return a
	}
	i := sort.Search(len(m.anchors), func(i int) bool { return m.anchors[i] > a })
	if i < len(m.anchors) {
		return min(m.anchors[i], s.end)
	}
	return s.end
}

// text is the text at a, with its NUL; nil where there is none.
func (m *image) text(a uint64) []byte {
	s := m.section(a)
	if s == nil || s.nobits {
		return nil
	}
	b := m.bytes(a, min(s.end-a, 1<<16))
	n := bytes.IndexByte(b, 0)
	if n < 1 || len(m.relocsIn(a, a+uint64(n))) > 0 {
		return nil
	}
	for _, ch := range b[:n] {
		if (ch < 0x20 || ch == 0x7f) && ch != '\n' && ch != '\t' && ch != '\r' && ch != 0x1b {
			return nil
		}
	}
	return b[:n+1]
}
