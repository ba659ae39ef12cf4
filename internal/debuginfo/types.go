package debuginfo

import (
	"debug/dwarf"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// A Layout is what a named type looks like in memory.
type Layout struct {
	Kind   string // struct, union, enum
	Name   string
	Size   int64
	Fields []Field
	Values []Value // of an enum
	known  bool    // not only declared
}

// A Field is a member, a base class or one of an unnamed member's members.
type Field struct {
	Name         string
	Bits, Length int64  // where it starts, in bits, and how many bits it has
	Type         string // with the names of structs and the like, not their layouts
}

// A Value is a named value of an enum.
type Value struct {
	Name  string
	Value int64
}

// bare follows typedefs and qualifiers; name is the typedef's, for a type
// without a name of its own.
func (i *Info) bare(r ref) (e *dwarf.Entry, at ref, name string) {
	for range maxChain {
		if e, _ = i.at(r); e == nil {
			return nil, r, name
		}
		if full, ok := i.to(e, dwarf.AttrSignature, r.alt); ok { // declared here, in a unit of its own
			r = full
			continue
		}
		switch e.Tag {
		case dwarf.TagTypedef:
			name = i.text(e, dwarf.AttrName)
		case dwarf.TagConstType, dwarf.TagVolatileType, dwarf.TagRestrictType, dwarf.TagAtomicType:
		default:
			return e, r, name
		}
		next, ok := i.to(e, dwarf.AttrType, r.alt)
		if !ok {
			return nil, r, name
		}
		r = next
	}
	return nil, r, name
}

// size is the size of a type in bytes; 0 when it is not known.
func (i *Info) size(r ref, depth int) int64 {
	if n, ok := i.sizes[r]; ok {
		return n
	}
	n := i.measure(r, depth)
	i.sizes[r] = n
	return n
}

func (i *Info) measure(r ref, depth int) int64 {
	e, at, _ := i.bare(r)
	if e == nil || depth > maxChain {
		return 0
	}
	if n, ok := number(e, dwarf.AttrByteSize); ok {
		return n
	}
	switch e.Tag {
	case dwarf.TagPointerType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		return 8
	case dwarf.TagArrayType:
		n := int64(1)
		for _, d := range i.dimensions(at) {
			if n *= d; n < 0 || n > 1<<48 {
				return 0
			}
		}
		if t, ok := i.to(e, dwarf.AttrType, at.alt); ok {
			return n * min(i.size(t, depth+1), 1<<14)
		}
	}
	return 0
}

// dimensions are the numbers of elements of an array (DWARF 5, 5.13).
func (i *Info) dimensions(r ref) []int64 {
	var out []int64
	for _, c := range i.children(r) {
		if c.Tag != dwarf.TagSubrangeType {
			continue
		}
		n, ok := number(c, dwarf.AttrCount)
		if !ok {
			if n, ok = number(c, dwarf.AttrUpperBound); ok {
				n++
			}
		}
		out = append(out, max(n, 0))
	}
	return out
}

// describe puts a type in words that mean the same in another build. Whether a
// number has a sign is not told: it lies in memory alike.
func (i *Info) describe(r ref, depth int) string {
	if s, ok := i.words[r]; ok {
		return s
	}
	s := i.inWords(r, depth)
	s = s[:min(len(s), maxText)]
	i.words[r] = s
	return s
}

func (i *Info) inWords(r ref, depth int) string {
	e, at, name := i.bare(r)
	if e == nil {
		return "void"
	}
	if depth > maxChain {
		return "..."
	}
	inner := func() string {
		if t, ok := i.to(e, dwarf.AttrType, at.alt); ok {
			return i.describe(t, depth+1)
		}
		return "void"
	}
	switch e.Tag {
	case dwarf.TagBaseType:
		enc, _ := number(e, dwarf.AttrEncoding)
		kind := map[int64]string{2: "bool", 4: "float", 5: "int", 6: "int", 7: "int", 8: "int", 0x10: "int"}[enc]
		return fmt.Sprintf("%s%d", kind, 8*i.size(at, 0))
	case dwarf.TagPointerType, dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		return "*" + inner()
	case dwarf.TagArrayType:
		return fmt.Sprint(i.dimensions(at), inner())
	case dwarf.TagSubroutineType:
		return "function" + i.signature(at, depth)
	case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType:
		if own := i.text(e, dwarf.AttrName); own != "" {
			name = own
		}
		if name != "" {
			return kindOf(e.Tag) + " " + name
		}
		return i.inline(at, depth)
	}
	return fmt.Sprintf("%v %s %d", e.Tag, i.text(e, dwarf.AttrName), i.size(at, 0))
}

// inline describes a type without a name by its layout.
func (i *Info) inline(r ref, depth int) string {
	l := i.layout(r, "", depth+1)
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %d {", l.Kind, l.Size)
	for _, f := range l.Fields {
		fmt.Fprintf(&b, "%s %s@%d:%d;", f.Type, f.Name, f.Bits, f.Length)
	}
	for _, v := range l.Values {
		fmt.Fprintf(&b, "%s=%d;", v.Name, v.Value)
	}
	return b.String() + "}"
}

// signature describes parameters and result of a function or its type.
func (i *Info) signature(r ref, depth int) string {
	e, _ := i.at(r)
	if e == nil {
		return "()"
	}
	var ps []string
	for _, c := range i.children(r) {
		switch c.Tag {
		case dwarf.TagFormalParameter:
			d := "?"
			if t, ok := i.typeOf(c, r.alt); ok {
				d = i.describe(t, depth+1)
			}
			ps = append(ps, d)
		case dwarf.TagUnspecifiedParameters:
			ps = append(ps, "...")
		}
	}
	out := "(" + strings.Join(ps, ", ") + ")"
	if t, ok := i.typeOf(e, r.alt); ok {
		out += " " + i.describe(t, depth+1)
	}
	return out
}

func kindOf(t dwarf.Tag) string {
	switch t {
	case dwarf.TagUnionType:
		return "union"
	case dwarf.TagEnumerationType:
		return "enum"
	}
	return "struct" // or class: the same but for who may look inside
}

// layout is the layout of a struct, class, union or enum.
func (i *Info) layout(r ref, name string, depth int) *Layout {
	if l := i.layouts[r]; l != nil {
		return l
	}
	l := &Layout{Name: name}
	e, _ := i.at(r)
	if e == nil || depth > maxChain {
		return l
	}
	i.layouts[r] = l
	if own := i.text(e, dwarf.AttrName); own != "" {
		l.Name = own
	}
	l.Kind = kindOf(e.Tag)
	l.Size, l.known = number(e, dwarf.AttrByteSize)
	if decl, _ := e.Val(dwarf.AttrDeclaration).(bool); decl {
		l.known = false
	}
	kids := i.children(r)
	i.edges[r] = i.leads(e, r, kids)
	l.Fields = i.fields(kids, r, 0, depth)
	for _, c := range kids {
		if c.Tag == dwarf.TagEnumerator {
			v, _ := number(c, dwarf.AttrConstValue)
			l.Values = append(l.Values, Value{i.text(c, dwarf.AttrName), v})
		}
	}
	// Every unit has its own copy of a header's types: one of them is kept.
	text := fmt.Sprint(l.Kind, l.Name, l.Size, l.known, l.Fields, l.Values)
	key := maphash.String(i.seed, text)
	if same := i.alike[key]; same != nil {
		l = same
	}
	i.alike[key], i.layouts[r] = l, l
	return l
}

// fields are the members of a type that lies at an offset, in bits; those of
// members without a name stand for them (DWARF 5, 5.7.6).
func (i *Info) fields(kids []*dwarf.Entry, r ref, base int64, depth int) []Field {
	var out []Field
	for _, c := range kids {
		t, ok := i.typeOf(c, r.alt)
		_, external := c.Val(dwarf.AttrExternal).(bool)
		if !ok || external || c.Tag != dwarf.TagMember && c.Tag != dwarf.TagInheritance || len(out) > maxMembers {
			continue
		}
		f := Field{Name: i.text(c, dwarf.AttrName), Bits: base, Length: 8 * i.size(t, 0), Type: i.describe(t, depth+1)}
		if off, ok := number(c, dwarf.AttrDataMemberLoc); ok {
			f.Bits += 8 * off
		}
		if n, ok := number(c, dwarf.AttrBitSize); ok {
			f.Length = n
			if at, ok := number(c, dwarf.AttrDataBitOffset); ok {
				f.Bits = base + at
			} else if at, ok := number(c, dwarf.AttrBitOffset); ok { // DWARF 3, from the other end
				f.Bits += 8*i.size(t, 0) - at - n
			}
		}
		if c.Tag == dwarf.TagInheritance {
			f.Name = "base " + f.Type
		}
		if f.Name == "" && depth < maxChain {
			if e, at, _ := i.bare(t); e != nil && (e.Tag == dwarf.TagStructType || e.Tag == dwarf.TagUnionType || e.Tag == dwarf.TagClassType) {
				out = append(out, i.fields(i.children(at), at, f.Bits, depth+1)...)
				continue
			}
		}
		out = append(out, f)
	}
	return out
}

// reach adds the named types that can be reached from some to found, by kind and name.
func (i *Info) reach(roots []ref, found map[string][]*Layout) {
	seen := make(map[ref]bool)
	todo := slices.Clone(roots)
	for len(todo) > 0 && len(seen) < maxTypes && !i.spent() {
		r := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		e, at, name := i.bare(r)
		if e == nil || seen[at] {
			continue
		}
		seen[at] = true
		switch e.Tag {
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType:
			l := i.layout(at, name, 0)
			if key := l.Kind + " " + l.Name; l.Name != "" && l.known && !slices.Contains(found[key], l) {
				found[key] = append(found[key], l)
			}
		}
		todo = append(todo, i.next(e, at)...)
	}
}

// next are the types that a type is made of or leads to.
func (i *Info) next(e *dwarf.Entry, r ref) []ref {
	if out, ok := i.edges[r]; ok {
		return out
	}
	out := i.leads(e, r, i.children(r))
	i.edges[r] = out
	return out
}

func (i *Info) leads(e *dwarf.Entry, r ref, kids []*dwarf.Entry) []ref {
	var out []ref
	if t, ok := i.to(e, dwarf.AttrType, r.alt); ok {
		out = append(out, t)
	}
	for _, c := range kids {
		switch c.Tag {
		case dwarf.TagMember, dwarf.TagInheritance, dwarf.TagFormalParameter:
			if t, ok := i.typeOf(c, r.alt); ok {
				out = append(out, t)
			}
		}
	}
	return out
}
