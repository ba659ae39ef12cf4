// Package debuginfo reads what DWARF says of the types that functions use:
// layouts of structs, classes and unions, values of enums, parameters. A
// module goes in, descriptions that can be compared come out. Where debug
// information lies it finds as debuggers do: in the file, in a separate file,
// on a server. What the difference means is for others to judge.
package debuginfo

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// The most that is read, so that a hostile file cannot ask for more.
const (
	maxSections = 4096
	maxBytes    = 1 << 30 // of all debug sections, decompressed
	maxDepth    = 128     // of nested entries
	maxChain    = 16      // of types that only name another one
	maxTypes    = 1 << 18 // types that are looked at in one comparison
	maxMembers  = 1 << 14 // of one type
	maxText     = 1 << 12 // bytes of one description
	maxSteps    = 1 << 24 // entries that are read in one comparison
)

// ErrNone means that a file has no debug information.
var ErrNone = errors.New("no debug information")

// Info is the debug information of one build.
type Info struct {
	main, alt file
	layouts   map[ref]*Layout
	edges     map[ref][]ref
	words     map[ref]string // see describe
	sizes     map[ref]int64
	alike     map[uint64]*Layout
	seed      maphash.Seed
	steps     int // entries read so far
}

// spent reports whether so much was read that the rest is not worth it.
func (i *Info) spent() bool { return i.steps > maxSteps }

// A file is one file with debug information: a build's, or the one that dwz
// moved to what several builds have in common.
type file struct {
	data  *dwarf.Data
	str   []byte // .debug_str
	addr  []byte // .debug_addr
	units []dwarf.Offset
	sigs  map[uint64]dwarf.Offset // types by the signature of their unit
}

// A ref names an entry.
type ref struct {
	alt bool
	off dwarf.Offset
}

// Read reads the debug information in the bytes of an ELF file; alt is the
// file that .gnu_debugaltlink names, or nil.
func Read(data, alt []byte) (*Info, error) {
	i := &Info{layouts: make(map[ref]*Layout), edges: make(map[ref][]ref), words: make(map[ref]string), sizes: make(map[ref]int64), alike: make(map[uint64]*Layout), seed: maphash.MakeSeed()}
	var err error
	if i.main, err = readFile(data); err != nil {
		return nil, err
	}
	if alt != nil {
		if i.alt, err = readFile(alt); err != nil {
			return nil, fmt.Errorf("alternate file: %w", err)
		}
	}
	return i, nil
}

func readFile(data []byte) (file, error) {
	sections, err := debugSections(data)
	if err != nil {
		return file{}, err
	}
	info := sections["info"]
	if len(info) == 0 {
		return file{}, ErrNone
	}
	d, err := dwarf.New(sections["abbrev"], nil, nil, info, nil, nil, sections["ranges"], sections["str"])
	if err != nil {
		return file{}, fmt.Errorf("read DWARF: %w", err)
	}
	for _, name := range []string{"addr", "line_str", "str_offsets", "rnglists"} {
		if b := sections[name]; b != nil {
			if err := d.AddSection(".debug_"+name, b); err != nil {
				return file{}, fmt.Errorf("read .debug_%s: %w", name, err)
			}
		}
	}
	f := file{data: d, str: sections["str"], addr: sections["addr"]}
	f.sigs = make(map[uint64]dwarf.Offset)
	f.units, err = unitsOf(info, f.sigs)
	return f, err
}

// debugSections are the .debug_ sections of an ELF file by the rest of their
// names, decompressed (gABI, Compression Header).
func debugSections(data []byte) (map[string][]byte, error) {
	if len(data) < 64 || int(binary.LittleEndian.Uint16(data[60:])) > maxSections {
		return nil, ErrNone
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%w for this architecture", ErrNone)
	}
	out := make(map[string][]byte)
	budget := uint64(maxBytes)
	for _, s := range f.Sections {
		name, ok := strings.CutPrefix(s.Name, ".debug_")
		if !ok || s.Type == elf.SHT_NOBITS || out[name] != nil {
			continue
		}
		switch name {
		case "abbrev", "info", "ranges", "str", "addr", "line_str", "str_offsets", "rnglists":
		default:
			continue
		}
		if s.Size > budget || s.FileSize > uint64(len(data)) {
			return nil, fmt.Errorf("debug sections have more than %d bytes", maxBytes)
		}
		budget -= s.Size
		if out[name], err = s.Data(); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Name, err)
		}
	}
	return out, nil
}

// unitsOf are the offsets of the first entry of each full unit (DWARF 5,
// 7.5.1) that may hold code. Type units are noted by their signatures.
func unitsOf(info []byte, sigs map[uint64]dwarf.Offset) ([]dwarf.Offset, error) {
	var out []dwarf.Offset
	for at := 0; at+12 <= len(info); {
		length, head, width := uint64(binary.LittleEndian.Uint32(info[at:])), 4, 4
		if length == 0xffffffff {
			length, head, width = binary.LittleEndian.Uint64(info[at+4:]), 12, 8
		}
		if length > uint64(len(info)-at-head) || length < 7 {
			return nil, fmt.Errorf("unit at %#x leads out of .debug_info", at)
		}
		version := binary.LittleEndian.Uint16(info[at+head:])
		first := head + 2 + width + 1
		full := true
		if version >= 5 {
			kind := info[at+head+2]
			first = head + 2 + 1 + 1 + width
			full = kind == 1                   // DW_UT_compile; partial units are reached by reference
			if kind == 2 && length >= 4+8+16 { // DW_UT_type
				b := info[at+first:]
				to := uint64(binary.LittleEndian.Uint32(b[8:]))
				if width == 8 {
					to = binary.LittleEndian.Uint64(b[8:])
				}
				sigs[binary.LittleEndian.Uint64(b)] = dwarf.Offset(uint64(at) + to)
			}
		}
		if full {
			out = append(out, dwarf.Offset(at+first))
		}
		at += head + int(length)
	}
	return out, nil
}

func (i *Info) file(alt bool) *file {
	if alt {
		return &i.alt
	}
	return &i.main
}

// at reads one entry.
func (i *Info) at(r ref) (*dwarf.Entry, *dwarf.Reader) {
	d := i.file(r.alt).data
	if i.steps++; d == nil || i.spent() {
		return nil, nil
	}
	rd := d.Reader()
	rd.Seek(r.off)
	e, err := rd.Next()
	if err != nil || e == nil || e.Tag == 0 {
		return nil, nil
	}
	return e, rd
}

// children are the entries directly below one.
func (i *Info) children(r ref) []*dwarf.Entry {
	e, rd := i.at(r)
	if e == nil || !e.Children {
		return nil
	}
	var out []*dwarf.Entry
	for len(out) < maxMembers && !i.spent() {
		i.steps++
		c, err := rd.Next()
		if err != nil || c == nil || c.Tag == 0 {
			break
		}
		out = append(out, c)
		i.skip(rd, c)
	}
	return out
}

// skip goes behind what is below an entry that was just read. Reader.SkipChildren
// recurses, as deep as a file asks for.
func (i *Info) skip(rd *dwarf.Reader, e *dwarf.Entry) {
	for depth := 0; ; {
		if e.Children {
			if next, ok := e.Val(dwarf.AttrSibling).(dwarf.Offset); ok && next > e.Offset {
				rd.Seek(next)
			} else {
				depth++
			}
		}
		if depth == 0 || i.spent() {
			return
		}
		var err error
		if e, err = rd.Next(); err != nil || e == nil {
			return
		}
		if i.steps++; e.Tag == 0 {
			depth--
		}
	}
}

// to is the entry that an attribute refers to.
func (i *Info) to(e *dwarf.Entry, a dwarf.Attr, alt bool) (ref, bool) {
	f := e.AttrField(a)
	if f == nil {
		return ref{}, false
	}
	switch v := f.Val.(type) {
	case dwarf.Offset:
		return ref{alt, v}, true
	case int64: // DW_FORM_GNU_ref_alt, DW_FORM_ref_sup
		if f.Class == dwarf.ClassReferenceAlt && !alt {
			return ref{true, dwarf.Offset(v)}, true
		}
	case uint64: // DW_FORM_ref_sig8
		if f.Class == dwarf.ClassReferenceSig {
			off, ok := i.file(alt).sigs[v]
			return ref{alt, off}, ok
		}
	}
	return ref{}, false
}

// text is the string that an attribute holds.
func (i *Info) text(e *dwarf.Entry, a dwarf.Attr) string {
	f := e.AttrField(a)
	if f == nil {
		return ""
	}
	switch v := f.Val.(type) {
	case string:
		return v
	case int64: // DW_FORM_GNU_strp_alt, DW_FORM_strp_sup
		if f.Class == dwarf.ClassStringAlt && v >= 0 && v < int64(len(i.alt.str)) {
			s := i.alt.str[v:]
			if n := bytes.IndexByte(s, 0); n >= 0 {
				return string(s[:n])
			}
		}
	}
	return ""
}

// name is an entry's name, or that of what it is an instance of.
func (i *Info) name(e *dwarf.Entry, alt bool) string {
	for range maxChain {
		if s := i.text(e, dwarf.AttrName); s != "" {
			return s
		}
		r, ok := i.origin(e, alt)
		if !ok {
			return ""
		}
		if e, _ = i.at(r); e == nil {
			return ""
		}
		alt = r.alt
	}
	return ""
}

// origin is what an entry is an instance or a definition of.
func (i *Info) origin(e *dwarf.Entry, alt bool) (ref, bool) {
	if r, ok := i.to(e, dwarf.AttrAbstractOrigin, alt); ok {
		return r, true
	}
	return i.to(e, dwarf.AttrSpecification, alt)
}

// typeOf is the type of an entry, or of what it is an instance of.
func (i *Info) typeOf(e *dwarf.Entry, alt bool) (ref, bool) {
	for range maxChain {
		if r, ok := i.to(e, dwarf.AttrType, alt); ok {
			return r, true
		}
		r, ok := i.origin(e, alt)
		if !ok {
			return ref{}, false
		}
		if e, _ = i.at(r); e == nil {
			return ref{}, false
		}
		alt = r.alt
	}
	return ref{}, false
}

func number(e *dwarf.Entry, a dwarf.Attr) (int64, bool) {
	switch v := e.Val(a).(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v), true
	}
	return 0, false
}
