package module

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// The most that is read of a file, so that a hostile one cannot ask for more
// memory than a few times its size: debug/elf copies every name.
const (
	maxSections = 4096
	maxName     = 1 << 16 // bytes of a symbol's or section's name
	maxNames    = 1 << 28 // bytes of all symbols' names
	maxDynTable = 1 << 16 // bytes of .dynamic
	maxTable    = 1 << 27 // bytes of symbols, of their names, or of relocations
	maxCode     = 1 << 28 // bytes of executable sections
)

// ELF opens the ELF file of size bytes in r, which may be hostile: what debug/elf
// then reads of its headers, symbols and relocations is bounded.
func ELF(r io.ReaderAt, size int64) (*elf.File, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrUnsupported, MaxSize)
	}
	if err := bounded(r, size); err != nil {
		return nil, err
	}
	return elf.NewFile(r)
}

// bounded looks at the section headers and the tables that debug/elf reads, and
// refuses a file that would take more than that.
func bounded(r io.ReaderAt, size int64) error {
	if size < 64 {
		return fmt.Errorf("%w: no ELF header", ErrUnsupported)
	}
	part := func(off, n uint64) ([]byte, error) {
		b := make([]byte, n)
		_, err := r.ReadAt(b, int64(off))
		return b, err
	}
	var h elf.Header64
	head, err := part(0, 64)
	if err != nil {
		return err
	}
	if _, err := binary.Decode(head, binary.LittleEndian, &h); err != nil {
		return err
	}
	if h.Shoff == 0 && h.Shnum == 0 {
		return nil
	}
	n := int(h.Shnum)
	if h.Shentsize != 64 || n == 0 || n > maxSections || h.Shoff > uint64(size) || uint64(size)-h.Shoff < uint64(n)*64 {
		return fmt.Errorf("%w: %d section headers at %#x", ErrUnsupported, n, h.Shoff)
	}
	table, err := part(h.Shoff, uint64(n)*64)
	if err != nil {
		return err
	}
	heads := make([]elf.Section64, n)
	for i := range heads {
		if _, err := binary.Decode(table[i*64:], binary.LittleEndian, &heads[i]); err != nil {
			return err
		}
	}
	bodies := make(map[uint32][]byte)
	body := func(i uint32) []byte {
		if i >= uint32(n) || heads[i].Off > uint64(size) || heads[i].Size > min(uint64(size)-heads[i].Off, maxTable) || elf.SectionType(heads[i].Type) == elf.SHT_NOBITS {
			return nil
		}
		if _, ok := bodies[i]; !ok {
			bodies[i], _ = part(heads[i].Off, heads[i].Size) // what cannot be read is zero
		}
		return bodies[i]
	}
	budget, code := maxNames, uint64(0)
	name := func(table []byte, at uint32) error {
		if int64(at) >= int64(len(table)) {
			return nil
		}
		l := bytes.IndexByte(table[at:min(len(table), int(at)+maxName)], 0)
		if budget -= l; l < 0 || budget < 0 {
			return fmt.Errorf("%w: names of symbols or sections are too long", ErrUnsupported)
		}
		return nil
	}
	for i := range heads {
		s := &heads[i]
		if err := name(body(uint32(h.Shstrndx)), s.Name); err != nil {
			return err
		}
		kind := elf.SectionType(s.Type)
		if elf.SectionFlag(s.Flags)&elf.SHF_COMPRESSED != 0 && kind != elf.SHT_PROGBITS {
			return fmt.Errorf("%w: section %d is compressed", ErrUnsupported, i)
		}
		if elf.SectionFlag(s.Flags)&elf.SHF_EXECINSTR != 0 {
			code += min(s.Size, maxCode+1)
		}
		if s.Size > maxTable && slices.Contains([]elf.SectionType{elf.SHT_SYMTAB, elf.SHT_DYNSYM, elf.SHT_STRTAB, elf.SHT_RELA}, kind) {
			return fmt.Errorf("%w: a table of %d bytes", ErrUnsupported, s.Size)
		}
		switch kind {
		case elf.SHT_DYNAMIC:
			for b := body(uint32(i)); len(b) >= 16; b = b[16:] {
				if elf.DynTag(binary.LittleEndian.Uint64(b)) == elf.DT_SONAME {
					if err := name(body(s.Link), binary.LittleEndian.Uint32(b[8:])); err != nil {
						return err
					}
				}
			}
			if s.Size > maxDynTable {
				return fmt.Errorf("%w: .dynamic has %d bytes", ErrUnsupported, s.Size)
			}
		case elf.SHT_SYMTAB, elf.SHT_DYNSYM:
			table := body(s.Link)
			for b := body(uint32(i)); len(b) >= elf.Sym64Size; b = b[elf.Sym64Size:] {
				if err := name(table, binary.LittleEndian.Uint32(b)); err != nil {
					return err
				}
			}
		}
	}
	if code > maxCode {
		return fmt.Errorf("%w: more than %d bytes of code", ErrUnsupported, maxCode)
	}
	return nil
}
