package module

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// ErrNotELF is returned for a file that does not begin with the ELF magic.
var ErrNotELF = errors.New("not an ELF file")

// Bounds on what an honest file needs.
const (
	maxNotes     = 1 << 20 // bytes of one PT_NOTE segment
	maxDynamic   = 1 << 20 // bytes of PT_DYNAMIC
	maxBuildID   = 64      // bytes; SHA-1 has 20
	maxSoname    = 255     // bytes; NAME_MAX
	maxHeaders   = 4096    // program headers
	ntGNUBuildID = 3       // NT_GNU_BUILD_ID, elf.h
)

// idSegment is a program header, widened to 64 bits.
type idSegment struct {
	kind                             elf.ProgType
	flags                            elf.ProgFlag
	off, vaddr, filesz, memsz, align uint64
}

// idFile is as much of an ELF file as its identity needs. Unlike debug/elf it
// is made for files that someone hostile wrote, and reads no more than asked.
type idFile struct {
	r        io.ReaderAt
	size     uint64
	order    binary.ByteOrder
	wide     bool // ELFCLASS64
	segments []idSegment
}

// ReadIdentity reads which build an ELF file of size bytes is. Both classes
// and byte orders are read. It streams the file, and refuses one whose
// segments lead out of it or overlap so that reading them has no bound.
func ReadIdentity(r io.ReaderAt, size int64) (Identity, error) {
	f, err := openID(r, size)
	if err != nil {
		return Identity{}, fmt.Errorf("read identity: %w", err)
	}
	var id Identity
	h := sha256.New()
	loads, total := 0, uint64(0)
	for _, s := range f.segments {
		switch s.kind {
		case elf.PT_NOTE:
			if id.BuildID != "" {
				continue
			}
			if id.BuildID, err = f.buildID(s); err != nil {
				return Identity{}, fmt.Errorf("read identity: %w", err)
			}
		case elf.PT_LOAD:
			loads++
			if total += s.filesz; total > 2*f.size {
				return Identity{}, errors.New("read identity: segments overlap in the file")
			}
			for _, v := range []uint64{s.vaddr, s.filesz, s.memsz, uint64(s.flags)} {
				var b [8]byte
				binary.LittleEndian.PutUint64(b[:], v)
				h.Write(b[:])
			}
			n, err := io.Copy(h, io.NewSectionReader(r, int64(s.off), int64(s.filesz)))
			if err == nil && uint64(n) != s.filesz {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return Identity{}, fmt.Errorf("read identity: segment at %#x: %w", s.vaddr, err)
			}
		}
	}
	if loads == 0 {
		return Identity{}, errors.New("read identity: no loadable segment")
	}
	id.Digest = hex.EncodeToString(h.Sum(nil))
	return id, nil
}

// ReadSoname reads the DT_SONAME of an ELF file of size bytes, empty when it
// has none (gABI, chapter 5, "Dynamic Section").
func ReadSoname(r io.ReaderAt, size int64) (string, error) {
	f, err := openID(r, size)
	if err == nil {
		var name string
		if name, err = f.soname(); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("read soname: %w", err)
}

// openID reads the ELF header and the program headers.
func openID(r io.ReaderAt, size int64) (*idFile, error) {
	f := &idFile{r: r, size: uint64(max(size, 0))}
	ident, err := f.bytes(0, elf.EI_NIDENT)
	if err != nil || string(ident[:4]) != elf.ELFMAG {
		return nil, ErrNotELF
	}
	switch elf.Data(ident[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		f.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		f.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("unknown byte order %d", ident[elf.EI_DATA])
	}
	// Where e_phoff and e_phentsize lie, and the size of a program header.
	phoff, counts, entry := uint64(0x20), uint64(0x36), uint64(56)
	switch elf.Class(ident[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
		f.wide = true
	case elf.ELFCLASS32:
		phoff, counts, entry = 0x1c, 0x2a, 32
	default:
		return nil, fmt.Errorf("unknown class %d", ident[elf.EI_CLASS])
	}
	head, err := f.bytes(0, counts+4)
	if err != nil {
		return nil, fmt.Errorf("ELF header: %w", err)
	}
	n := uint64(f.order.Uint16(head[counts+2:]))
	if size := uint64(f.order.Uint16(head[counts:])); n > 0 && size != entry {
		return nil, fmt.Errorf("program headers of %d bytes, not %d", size, entry)
	}
	if n > maxHeaders {
		return nil, fmt.Errorf("%d program headers, more than %d", n, maxHeaders)
	}
	table, err := f.bytes(f.word(head, phoff), n*entry)
	if err != nil {
		return nil, fmt.Errorf("program headers: %w", err)
	}
	for ; len(table) > 0; table = table[entry:] {
		s := f.segment(table)
		// p_filesz of other kinds is checked where they are read.
		if s.kind == elf.PT_LOAD && (s.off > f.size || s.filesz > f.size-s.off) {
			return nil, fmt.Errorf("segment at %#x leads out of the file", s.vaddr)
		}
		f.segments = append(f.segments, s)
	}
	return f, nil
}

func (f *idFile) segment(b []byte) idSegment {
	s := idSegment{kind: elf.ProgType(f.order.Uint32(b))}
	if f.wide {
		s.flags = elf.ProgFlag(f.order.Uint32(b[4:]))
		s.off, s.vaddr = f.word(b, 8), f.word(b, 16)
		s.filesz, s.memsz, s.align = f.word(b, 32), f.word(b, 40), f.word(b, 48)
		return s
	}
	s.off, s.vaddr = f.word(b, 4), f.word(b, 8)
	s.filesz, s.memsz = f.word(b, 16), f.word(b, 20)
	s.flags, s.align = elf.ProgFlag(f.order.Uint32(b[24:])), f.word(b, 28)
	return s
}

// word is the address-sized number at b[at:].
func (f *idFile) word(b []byte, at uint64) uint64 {
	if f.wide {
		return f.order.Uint64(b[at:])
	}
	return uint64(f.order.Uint32(b[at:]))
}

// bytes reads n bytes at off; the caller bounds n.
func (f *idFile) bytes(off, n uint64) ([]byte, error) {
	if off > f.size || n > f.size-off {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	if k, err := f.r.ReadAt(b, int64(off)); uint64(k) != n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return b, nil
}

// buildID finds the build-id among the notes of a segment, empty when it is
// not there. Names and descriptors are padded to 4 bytes, in a segment aligned
// to 8 to 8 (gABI, chapter 5, "Note Section"; gABI of 2018 for 8).
func (f *idFile) buildID(s idSegment) (string, error) {
	if s.filesz > maxNotes {
		return "", fmt.Errorf("notes of %d bytes", s.filesz)
	}
	b, err := f.bytes(s.off, s.filesz)
	if err != nil {
		return "", fmt.Errorf("notes: %w", err)
	}
	pad := uint64(4)
	if s.align == 8 {
		pad = 8
	}
	for len(b) >= 12 {
		name, desc := uint64(f.order.Uint32(b)), uint64(f.order.Uint32(b[4:]))
		from := (12 + name + pad - 1) &^ (pad - 1)
		if from+desc > uint64(len(b)) {
			return "", errors.New("note leads out of its segment")
		}
		if f.order.Uint32(b[8:]) == ntGNUBuildID && string(b[12:12+name]) == "GNU\x00" {
			if desc == 0 || desc > maxBuildID {
				return "", fmt.Errorf("build-id of %d bytes", desc)
			}
			return hex.EncodeToString(b[from : from+desc]), nil
		}
		b = b[min(uint64(len(b)), (from+desc+pad-1)&^(pad-1)):]
	}
	return "", nil
}

func (f *idFile) soname() (string, error) {
	for _, s := range f.segments {
		if s.kind != elf.PT_DYNAMIC {
			continue
		}
		if s.filesz > maxDynamic {
			return "", fmt.Errorf("dynamic section of %d bytes", s.filesz)
		}
		b, err := f.bytes(s.off, s.filesz)
		if err != nil {
			return "", fmt.Errorf("dynamic section: %w", err)
		}
		size := 8
		if f.wide {
			size = 16
		}
		var strtab, name uint64
		var have bool
	entries:
		for ; len(b) >= size; b = b[size:] {
			switch v := f.word(b, uint64(size/2)); elf.DynTag(f.word(b, 0)) {
			case elf.DT_NULL:
				break entries
			case elf.DT_STRTAB:
				strtab = v
			case elf.DT_SONAME:
				name, have = v, true
			}
		}
		if !have {
			return "", nil
		}
		return f.text(strtab + name)
	}
	return "", nil
}

// text is the string at an image address.
func (f *idFile) text(addr uint64) (string, error) {
	for _, s := range f.segments {
		if s.kind != elf.PT_LOAD || addr < s.vaddr || addr-s.vaddr >= s.filesz {
			continue
		}
		b, err := f.bytes(s.off+addr-s.vaddr, min(s.filesz-(addr-s.vaddr), maxSoname+1))
		if err != nil {
			return "", err
		}
		for i, c := range b {
			if c == 0 {
				return string(b[:i]), nil
			}
		}
		return "", errors.New("string without an end")
	}
	return "", fmt.Errorf("string at %#x lies in no segment", addr)
}
