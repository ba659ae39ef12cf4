package module

import (
	"slices"
	"sort"
)

// AnchorKind says who refers to an address outside code; the kinds add up.
type AnchorKind uint8

// The kinds of anchors.
const (
	AnchorAccess  AnchorKind = 1 << iota // an instruction reads or writes there
	AnchorTaken                          // an instruction takes the address
	AnchorPointer                        // a relocation or an unwind table holds the address
	AnchorSymbol                         // a symbol of .dynsym stands there
	AnchorTable                          // a jump table starts there
)

type anchor struct {
	addr Addr
	kind AnchorKind
}

// collectAnchors gathers every address outside code that code, a relocation
// or a symbol refers to: the only places where objects are known to start.
func (m *Module) collectAnchors() {
	add := func(a Addr, k AnchorKind) {
		if s := m.SectionAt(a); s != nil && !s.Exec {
			m.anchors = append(m.anchors, anchor{a, k})
		}
	}
	for _, list := range [][]*Func{m.Funcs, m.Gaps} {
		for _, f := range list {
			for i := range f.Refs {
				switch r := &f.Refs[i]; {
				case r.Kind == RefAddress, r.Kind == RefMemory && r.MemSize == 0:
					add(r.Target, AnchorTaken)
				case r.Kind == RefMemory:
					add(r.Target, AnchorAccess)
				}
			}
		}
	}
	for i := range m.CFI.FDEs {
		for _, a := range m.Handlers(&m.CFI.FDEs[i]) {
			add(a, AnchorPointer)
		}
	}
	for _, r := range m.Relocs {
		if a, ok := r.Leads(); ok {
			add(a, AnchorPointer)
		}
	}
	for _, s := range m.Symbols {
		if s.Defined && s.Dynamic {
			add(s.Addr, AnchorSymbol)
		}
	}
	slices.SortFunc(m.anchors, func(a, b anchor) int { return int(int64(a.addr) - int64(b.addr)) })
	out := m.anchors[:0]
	for _, a := range m.anchors {
		if n := len(out); n > 0 && out[n-1].addr == a.addr {
			out[n-1].kind |= a.kind
			continue
		}
		out = append(out, a)
	}
	m.anchors = out
}

// anchorFrom is the index of the first anchor at or after a.
func (m *Module) anchorFrom(a Addr) int {
	return sort.Search(len(m.anchors), func(i int) bool { return m.anchors[i].addr >= a })
}

func (m *Module) mark(a Addr, k AnchorKind) {
	if i := m.anchorFrom(a); i < len(m.anchors) && m.anchors[i].addr == a {
		m.anchors[i].kind |= k
	}
}

// AnchorAt says who refers to exactly a; 0 when nobody does.
func (m *Module) AnchorAt(a Addr) AnchorKind {
	if i := m.anchorFrom(a); i < len(m.anchors) && m.anchors[i].addr == a {
		return m.anchors[i].kind
	}
	return 0
}

// NextAnchor is the first address after a that something refers to, or the
// end of a's section.
func (m *Module) NextAnchor(a Addr) Addr {
	end := a
	if s := m.SectionAt(a); s != nil {
		end = s.End
	}
	if i := m.anchorFrom(a + 1); i < len(m.anchors) {
		end = min(end, m.anchors[i].addr)
	}
	return end
}

// AnchorsIn are the addresses in r that something refers to.
func (m *Module) AnchorsIn(r Range) []Addr {
	var out []Addr
	for i := m.anchorFrom(r.Start); i < len(m.anchors) && m.anchors[i].addr < r.End; i++ {
		out = append(out, m.anchors[i].addr)
	}
	return out
}

// LastAnchor is the last address before a, in a's section, that something refers to.
func (m *Module) LastAnchor(a Addr) (Addr, bool) {
	i := m.anchorFrom(a) - 1
	if i < 0 || m.SectionAt(m.anchors[i].addr) != m.SectionAt(a) {
		return 0, false
	}
	return m.anchors[i].addr, true
}

// OnlyText reports whether what starts at a is a text with nothing but
// alignment behind it.
func (m *Module) OnlyText(a Addr) bool {
	text := m.Text(a)
	if text == "" {
		return false
	}
	const align = 32 // of a long string constant, bytes
	end := a + Addr(len(text)) + 1
	pad := m.Bytes(Range{end, max(end, m.NextAnchor(end-1))})
	return len(pad) < align && !slices.ContainsFunc(pad, func(b byte) bool { return b != 0 })
}

// ObjectEnd is an address where the read-only object at a has certainly ended:
// the next one that is an object's start beyond doubt, or the end of the
// section. An address that code takes or reads may lie inside the object.
func (m *Module) ObjectEnd(a Addr) Addr {
	for next := m.NextAnchor(a); ; next = m.NextAnchor(next) {
		k := m.AnchorAt(next)
		if k == 0 || k&(AnchorSymbol|AnchorTable) != 0 || m.OnlyText(next) {
			return next
		}
	}
}
