package patch

import (
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
)

// Extension is how patch files are named.
const Extension = ".hotpatch"

// MaxSize is the largest patch file that is read, in bytes.
const MaxSize = 256 << 20

// Format is the version of the patch file that is written and read.
const Format = 1

// ErrFormat wraps everything that makes a file not a patch file.
var ErrFormat = errors.New("not a valid patch file")

const (
	metaSection  = ".hotpatch"
	fixedSection = ".hotpatch.fixed" // DEFLATE (RFC 1951)
	maxMeta      = 16 << 20          // bytes of either
)

type meta struct {
	Format int
	*Patch
}

// Encode writes the patch file and sets p.ID to its digest. It is an ELF
// shared object: its sections are the pieces of the overlay, with a symbol for each function, and .hotpatch, a JSON
// document with everything else. The last 32 bytes, which ELF tools pass over,
// are the SHA-256 of all before them: a damaged file is not read.
func (p *Patch) Encode() ([]byte, error) {
	js, err := json.MarshalIndent(meta{Format, p}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	w := elfWriter{}
	for i := range p.Pieces {
		s := &p.Pieces[i]
		name, flags := ".rodata", elf.SHF_ALLOC
		switch s.Prot {
		case ReadExec:
			name, flags = ".text", flags|elf.SHF_EXECINSTR
		case ReadWrite:
			name, flags = ".data", flags|elf.SHF_WRITE
		}
		w.add(section{name: fmt.Sprintf("%s.%x", name, uint64(s.Addr)), kind: elf.SHT_PROGBITS, flags: flags, addr: s.Addr, data: s.Bytes, align: PageSize})
	}
	w.add(section{name: metaSection, kind: elf.SHT_PROGBITS, data: js, align: 1})
	if p.FixedFile != nil {
		fixed, err := deflate(p.FixedFile)
		if err != nil {
			return nil, fmt.Errorf("encode patch: %w", err)
		}
		if len(fixed) <= maxMeta { // else no later patch can take over
			w.add(section{name: fixedSection, kind: elf.SHT_PROGBITS, data: fixed, align: 1})
		}
	}
	w.symbols(p)
	out := w.bytes()
	seal := sha256.Sum256(out)
	out = append(out, seal[:]...)
	sum := sha256.Sum256(out)
	p.ID = ID(hex.EncodeToString(sum[:]))
	return out, nil
}

// Open reads the patch file at path.
func Open(path string) (*Patch, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would block
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("read %s: %w: it is not a regular file", path, ErrFormat), err)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	p, err := Read(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

// Read decodes a patch file and checks that it is consistent in itself.
func Read(data []byte) (*Patch, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFormat, MaxSize)
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, fmt.Errorf("%w: this is no ELF file", ErrFormat)
	}
	sum := sha256.Sum256(data)
	body := len(data) - sha256.Size
	if body < 0 || sha256.Sum256(data[:body]) != [sha256.Size]byte(data[body:]) {
		return nil, fmt.Errorf("%w: damaged: its bytes are not what its digest says", ErrFormat)
	}
	data = data[:body]
	if err := bounded(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	p := &Patch{}
	s := f.Section(metaSection)
	if s == nil {
		return nil, fmt.Errorf("%w: no section %s", ErrFormat, metaSection)
	}
	js, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	m := meta{Patch: p}
	if err := json.Unmarshal(js, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if m.Format != Format {
		return nil, fmt.Errorf("%w: format %d, this program reads %d", ErrFormat, m.Format, Format)
	}
	if err := p.readPieces(f); err != nil {
		return nil, err
	}
	if s := f.Section(fixedSection); s != nil {
		if p.FixedFile, err = inflate(s); err != nil {
			return nil, fmt.Errorf("%w: the fixed build in it: %w", ErrFormat, err)
		}
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	p.ID = ID(hex.EncodeToString(sum[:]))
	return p, nil
}

// bounded looks at the section headers alone: their number, and that the
// sections are plain, short enough and do not share bytes, so that no file
// takes more memory than a few times its size.
func bounded(data []byte) error {
	const most, maxNames = 64, 1 << 12
	var h elf.Header64
	if len(data) < 64 {
		return errors.New("no ELF header")
	}
	if _, err := binary.Decode(data, binary.LittleEndian, &h); err != nil {
		return err
	}
	if h.Ident[elf.EI_CLASS] != byte(elf.ELFCLASS64) || h.Ident[elf.EI_DATA] != byte(elf.ELFDATA2LSB) || h.Phnum != 0 ||
		h.Shentsize != 64 || h.Shnum == 0 || h.Shnum > most || h.Shoff > uint64(len(data)) || uint64(len(data))-h.Shoff < uint64(h.Shnum)*64 {
		return fmt.Errorf("%d section headers at %#x", h.Shnum, h.Shoff)
	}
	total := uint64(0)
	for i := range int(h.Shnum) {
		var s elf.Section64
		if _, err := binary.Decode(data[h.Shoff+uint64(i)*64:], binary.LittleEndian, &s); err != nil {
			return err
		}
		alloc := elf.SectionFlag(s.Flags)&elf.SHF_ALLOC != 0
		switch total += min(s.Size, MaxSize); {
		case elf.SectionFlag(s.Flags)&elf.SHF_COMPRESSED != 0, total > uint64(len(data)), i == int(h.Shstrndx) && s.Size > maxNames,
			!alloc && elf.SectionType(s.Type) == elf.SHT_PROGBITS && s.Size > maxMeta:
			return fmt.Errorf("section %d of %d bytes", i, s.Size)
		}
	}
	return nil
}

func (p *Patch) readPieces(f *elf.File) error {
	i := 0
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type != elf.SHT_PROGBITS {
			continue
		}
		if i == len(p.Pieces) {
			return fmt.Errorf("%w: section %s is not a listed piece", ErrFormat, s.Name)
		}
		b, err := s.Data()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if s.Addr != uint64(p.Pieces[i].Addr) || strings.HasPrefix(s.Name, ".text.") != (p.Pieces[i].Prot == ReadExec) {
			return fmt.Errorf("%w: section %s is not piece %d", ErrFormat, s.Name, i)
		}
		p.Pieces[i].Bytes = b
		i++
	}
	if i != len(p.Pieces) {
		return fmt.Errorf("%w: %d pieces listed, %d there", ErrFormat, len(p.Pieces), i)
	}
	return nil
}

// check holds the patch against its own rules.
func (p *Patch) check() error {
	const highest = 1 << 40 // image addresses of real modules are far below
	var end module.Addr
	for i := range p.Pieces {
		s := &p.Pieces[i]
		if s.Addr%PageSize != 0 || len(s.Bytes)%PageSize != 0 || len(s.Bytes) == 0 || s.Addr < end || s.Addr > highest || s.Prot > ReadWrite {
			return fmt.Errorf("piece %d at %v is misplaced", i, s.Addr)
		}
		end = s.Addr + module.Addr(len(s.Bytes))
	}
	for _, f := range p.Fixups {
		if f.Kind > NarrowOverlay || p.field(f.At, f.Size()) == nil || f.Kind == AbsImport && (f.Import < 0 || f.Import >= len(p.Imports)) {
			return fmt.Errorf("fixup at %v leads out of the overlay", f.At)
		}
	}
	for _, s := range p.Steers {
		if !p.executable(s.To) || s.At > highest {
			return fmt.Errorf("steered function %s leads to %v, which is no code of the overlay", s.Name, s.To)
		}
	}
	if err := p.checkOld(highest); err != nil {
		return err
	}
	if p.EHFrameHdr != 0 && p.field(p.EHFrameHdr, 12) == nil {
		return fmt.Errorf("unwind tables at %v lie outside the overlay", p.EHFrameHdr)
	}
	if p.HeaderLen < 64 || p.HeaderLen > 1<<20 || p.field(p.Header, int(p.HeaderLen)) == nil {
		return errors.New("it has no room for a header")
	}
	for _, v := range p.Variables {
		if v.Fixed.End <= v.Fixed.Start || v.Fixed.Len() > MaxSize || p.field(v.At, int(v.Fixed.Len())) == nil {
			return fmt.Errorf("new variables at %v lie outside the overlay", v.At)
		}
	}
	if len(p.Steers)+len(p.Exports) == 0 || p.Baseline.Digest == "" || p.Fixed.Digest == "" {
		return errors.New("it names no builds, or steers nothing")
	}
	return nil
}

// checkOld holds the code that is replaced against what is steered: only
// functions whose digests the patch has, each place once.
func (p *Patch) checkOld(highest module.Addr) error {
	var code []module.Range
	total := uint64(0)
	for _, o := range p.Old {
		for _, r := range o.Ranges {
			if r.End <= r.Start || r.End > highest {
				return fmt.Errorf("range of %s is empty", o.Name)
			}
			total += r.Len()
		}
		if len(o.Ranges) == 0 || total > MaxSize {
			return fmt.Errorf("%s has no code, or all have more than %d bytes", o.Name, MaxSize)
		}
		code = append(code, o.Ranges...)
	}
	slices.SortFunc(code, func(a, b module.Range) int { return cmp.Compare(a.Start, b.Start) })
	taken := make(map[module.Addr]bool)
	for _, s := range p.Steers {
		i, _ := slices.BinarySearchFunc(code, s.At, func(r module.Range, a module.Addr) int { return cmp.Compare(r.Start, a+1) })
		if i == 0 || !code[i-1].Contains(s.At) {
			return fmt.Errorf("what is steered at %v (%s) is no function of which it has a digest", s.At, s.Name)
		}
		for b := range module.Addr(len(s.Old)) {
			if taken[s.At+b] {
				return fmt.Errorf("two functions are steered at %v", s.At)
			}
			taken[s.At+b] = true
		}
	}
	return nil
}

func (p *Patch) executable(a module.Addr) bool {
	for i := range p.Pieces {
		s := &p.Pieces[i]
		if s.Prot == ReadExec && s.Addr <= a && a < s.Addr+module.Addr(len(s.Bytes)) {
			return true
		}
	}
	return false
}

func deflate(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

func inflate(s *elf.Section) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(flate.NewReader(s.Open()), MaxSize+1))
	if err == nil && len(b) > MaxSize {
		err = fmt.Errorf("more than %d bytes", MaxSize)
	}
	return b, err
}

type section struct {
	name       string
	kind       elf.SectionType
	flags      elf.SectionFlag
	addr       module.Addr
	data       []byte
	align      uint64
	link, info uint32
	entry      uint64
}

// elfWriter lays out an ELF shared object of the sections it is given.
type elfWriter struct{ sections []section }

func (w *elfWriter) add(s section) { w.sections = append(w.sections, s) }

// symbols adds .symtab: the functions of the overlay.
func (w *elfWriter) symbols(p *Patch) {
	names := []byte{0}
	table := make([]byte, elf.Sym64Size)
	for i := range p.Functions {
		f := &p.Functions[i]
		for k, r := range f.Ranges {
			name := f.Name
			if k > 0 {
				name = fmt.Sprintf("%s.part.%d", f.Name, k)
			}
			table = binary.LittleEndian.AppendUint32(table, uint32(len(names)))
			table = append(table, elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC), 0)
			table = binary.LittleEndian.AppendUint16(table, uint16(w.sectionOf(r.Start)))
			table = binary.LittleEndian.AppendUint64(table, uint64(r.Start))
			table = binary.LittleEndian.AppendUint64(table, r.Len())
			names = append(append(names, name...), 0)
		}
	}
	w.add(section{
		name: ".symtab", kind: elf.SHT_SYMTAB, data: table, align: 8,
		link: uint32(len(w.sections) + 2), info: uint32(len(table) / elf.Sym64Size), entry: elf.Sym64Size,
	})
	w.add(section{name: ".strtab", kind: elf.SHT_STRTAB, data: names, align: 1})
}

// sectionOf is the number of the section that holds a, counting the empty one first.
func (w *elfWriter) sectionOf(a module.Addr) int {
	for i, s := range w.sections {
		if s.addr != 0 && s.addr <= a && a < s.addr+module.Addr(len(s.data)) {
			return i + 1
		}
	}
	return 0
}

func (w *elfWriter) bytes() []byte {
	const header, sectionHeader = 64, 64
	names := []byte{0}
	at := uint64(header)
	heads := []elf.Section64{{}}
	w.add(section{name: ".shstrtab", kind: elf.SHT_STRTAB, align: 1})
	for i := range w.sections {
		s := &w.sections[i]
		head := elf.Section64{
			Name: uint32(len(names)), Type: uint32(s.kind), Flags: uint64(s.flags), Addr: uint64(s.addr),
			Link: s.link, Info: s.info, Addralign: s.align, Entsize: s.entry,
		}
		names = append(append(names, s.name...), 0)
		if i == len(w.sections)-1 {
			s.data = names
		}
		at = (at + s.align - 1) / s.align * s.align
		head.Off, head.Size = at, uint64(len(s.data))
		at += uint64(len(s.data))
		heads = append(heads, head)
	}
	table := (at + 7) &^ 7
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Shoff: table,
		Ehsize: header, Phentsize: 56, Shentsize: sectionHeader, Shnum: uint16(len(heads)), Shstrndx: uint16(len(heads) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	out := make([]byte, table, table+uint64(len(heads))*sectionHeader)
	_, _ = binary.Encode(out, binary.LittleEndian, h) // out is large enough
	for i := range w.sections {
		copy(out[heads[i+1].Off:], w.sections[i].data)
	}
	for i := range heads {
		out, _ = binary.Append(out, binary.LittleEndian, heads[i]) // a fixed-size struct
	}
	return out
}
