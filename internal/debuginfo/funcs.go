package debuginfo

import (
	"debug/dwarf"
	"encoding/binary"
	"maps"
	"slices"
)

// A function is what debug information says of one function.
type function struct {
	at    ref
	name  string
	roots []ref // types of its variables and parameters, also of what is inlined
}

// scan is what was read of the units that hold some functions.
type scan struct {
	info  *Info
	want  []uint64 // sorted
	funcs map[uint64]*function
	vars  map[uint64]ref      // types of static variables, by address
	types map[string][]string // of static and thread-local variables, in words, by name
	named []ref               // the types with a name of these units
	units map[ref]bool        // that were imported
	base  int64               // of the addresses of the unit being read (DW_AT_addr_base)
}

// scan reads the units that hold functions which start at the addresses of want.
func (i *Info) scan(want map[uint64]bool) *scan {
	s := &scan{info: i, want: slices.Sorted(maps.Keys(want)), funcs: make(map[uint64]*function), vars: make(map[uint64]ref), types: make(map[string][]string), units: make(map[ref]bool)}
	for _, off := range i.main.units {
		e, rd := i.at(ref{off: off})
		if e == nil || e.Tag != dwarf.TagCompileUnit {
			continue
		}
		ranges, err := i.main.data.Ranges(e)
		if err != nil || !e.Children {
			continue
		}
		i.steps += len(ranges)
		if slices.ContainsFunc(ranges, func(r [2]uint64) bool { return s.holds(r[0], r[1]) }) {
			s.base, _ = number(e, dwarf.AttrAddrBase)
			s.entries(rd, nil, 0)
		}
	}
	return s
}

// holds reports whether a function of interest starts in a range.
func (s *scan) holds(lo, hi uint64) bool {
	k, _ := slices.BinarySearch(s.want, lo)
	return k < len(s.want) && s.want[k] < hi
}

// entries reads siblings up to their end; in is the function that they belong to.
func (s *scan) entries(rd *dwarf.Reader, in *function, depth int) {
	for {
		e, err := rd.Next()
		if s.info.steps++; err != nil || e == nil || e.Tag == 0 || s.info.spent() {
			return
		}
		into, skip := in, false
		switch e.Tag {
		case dwarf.TagSubprogram:
			if into = s.start(e); into == nil {
				skip = true
			}
		case dwarf.TagFormalParameter, dwarf.TagVariable, dwarf.TagInlinedSubroutine:
			s.variable(e, in)
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType, dwarf.TagTypedef:
			r := ref{off: e.Offset}
			if s.named = append(s.named, r); in != nil {
				in.roots = append(in.roots, r)
			}
			skip = true
		case dwarf.TagImportedUnit:
			s.imported(ref{off: e.Offset}, 0)
		case dwarf.TagLexDwarfBlock, dwarf.TagNamespace:
		default:
			skip = true
		}
		if !e.Children {
			continue
		}
		if skip || depth > maxDepth {
			s.info.skip(rd, e)
		} else {
			s.entries(rd, into, depth+1)
		}
	}
}

// imported notes the types of a unit that dwz made of what several have in common.
func (s *scan) imported(r ref, depth int) {
	e, _ := s.info.at(r)
	if e == nil || depth > maxChain {
		return
	}
	unit, ok := s.info.to(e, dwarf.AttrImport, r.alt)
	if !ok || s.units[unit] {
		return
	}
	s.units[unit] = true
	for _, c := range s.info.children(unit) {
		at := ref{unit.alt, c.Offset}
		switch c.Tag {
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType, dwarf.TagTypedef:
			s.named = append(s.named, at)
		case dwarf.TagImportedUnit:
			s.imported(at, depth+1)
		}
	}
}

// start notes a function that starts at one of the addresses.
func (s *scan) start(e *dwarf.Entry) *function {
	ranges, err := s.info.main.data.Ranges(e)
	if err != nil {
		return nil
	}
	s.info.steps += len(ranges)
	for _, r := range ranges {
		if _, ok := slices.BinarySearch(s.want, r[0]); !ok {
			continue
		}
		f := &function{at: ref{off: e.Offset}, name: s.info.name(e, false)}
		if t, ok := s.info.typeOf(e, false); ok {
			f.roots = append(f.roots, t)
		}
		s.funcs[r[0]] = f
		return f
	}
	return nil
}

// variable notes the type of a variable, a parameter or what is inlined.
func (s *scan) variable(e *dwarf.Entry, in *function) {
	t, ok := s.info.typeOf(e, false)
	if !ok {
		return
	}
	if in != nil {
		in.roots = append(in.roots, t)
	}
	loc, _ := e.Val(dwarf.AttrLocation).([]byte)
	a, static := s.address(loc)
	if static {
		s.vars[a] = t
	}
	if name := s.info.name(e, false); name != "" && (static || threadLocal(loc)) {
		s.types[name] = append(s.types[name], s.info.describe(t, 0))
	}
}

// threadLocal reports whether a location is an offset in thread-local storage:
// DW_OP_form_tls_address (DWARF 5, 2.5.1.3), or GNU's before that.
func threadLocal(loc []byte) bool {
	const form, gnu = 0x9b, 0xe0
	return len(loc) > 1 && (loc[len(loc)-1] == form || loc[len(loc)-1] == gnu)
}

// address is where a static variable lies, or the first piece of it: DW_OP_addr,
// DW_OP_addrx (DWARF 5, 7.7.1).
func (s *scan) address(loc []byte) (uint64, bool) {
	const opAddr, opAddrx = 0x03, 0xa1
	switch {
	case len(loc) >= 9 && loc[0] == opAddr:
		return binary.LittleEndian.Uint64(loc[1:]), true
	case len(loc) >= 2 && loc[0] == opAddrx:
		n, k := binary.Uvarint(loc[1:])
		table := s.info.main.addr
		if at := uint64(s.base) + 8*n; k > 0 && n < 1<<32 && s.base >= 0 && at+8 <= uint64(len(table)) {
			return binary.LittleEndian.Uint64(table[at:]), true
		}
	}
	return 0, false
}
