package diff

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"

	"hotpatch/internal/module"
)

func isGOT(s *module.Section) bool { return s.Name == ".got" || s.Name == ".got.plt" }

// SlotKey names what the loader puts into a slot at a, so that two builds can
// be compared: an import by symbol and version, a TLS offset, or, with local,
// an address of the module itself. ok is false when a is no such slot.
func SlotKey(m *module.Module, a module.Addr) (key string, local module.Addr, ok bool) {
	r, found := m.RelocAt(a)
	if !found {
		return "", 0, false
	}
	switch r.Type {
	case elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT:
		return "import " + r.Sym + "@" + r.Version, 0, true
	case elf.R_X86_64_DTPMOD64:
		next := m.Bytes(module.Range{Start: a + 8, End: a + 16})
		off := ""
		if _, hasReloc := m.RelocAt(a + 8); !hasReloc && next != nil {
			off = fmt.Sprint(binary.LittleEndian.Uint64(next))
		}
		return "tls module " + r.Sym + "+" + off, 0, true
	case elf.R_X86_64_DTPOFF64, elf.R_X86_64_TPOFF64, elf.R_X86_64_TLSDESC:
		return fmt.Sprintf("tls %v %s%+d", r.Type, r.Sym, r.Addend), 0, true
	case elf.R_X86_64_RELATIVE, elf.R_X86_64_IRELATIVE:
		if s := m.SectionAt(a); s != nil && isGOT(s) {
			return r.Type.String(), module.Addr(r.Addend), true
		}
	}
	return "", 0, false
}

// differs says how a reference of the baseline and one of the fixed build at
// the same place lead to different things; empty when they lead to the same.
func (c *comparer) differs(o, n module.Addr, kind module.RefKind, size uint8) string {
	so, sn := c.Old.SectionAt(o), c.New.SectionAt(n)
	if so == nil || sn == nil {
		if so == nil && sn == nil && c.beyond(c.Old, o) == c.beyond(c.New, n) {
			return ""
		}
		return fmt.Sprintf("refers to %v, outside any section", n)
	}
	if so.Exec || sn.Exec {
		return c.differsCode(o, n, so, sn)
	}
	ko, lo, okO := SlotKey(c.Old, o)
	kn, ln, okN := SlotKey(c.New, n)
	if okO || okN {
		switch {
		case ko != kn || okO != okN:
			return fmt.Sprintf("uses %s instead of %s", kn, ko)
		case lo != 0 && ln != 0:
			return c.differs(lo, ln, module.RefAddress, 0)
		}
		return ""
	}
	if so.Write || sn.Write {
		if b, ok := c.data.Old(n); ok && b == o {
			return ""
		}
		return fmt.Sprintf("refers to another object, at %v", n)
	}
	switch c.constant(o, n, kind, size) {
	case same, version:
		return ""
	}
	return fmt.Sprintf("read-only data at %v has other content", n)
}

// beyond names an address outside all sections by what it follows.
func (c *comparer) beyond(m *module.Module, a module.Addr) string {
	last, name := module.Addr(0), ""
	for i := range m.Sections {
		if s := &m.Sections[i]; s.End <= a && s.End >= last {
			last, name = s.End, s.Name
		}
	}
	return fmt.Sprint(name, a-last)
}

func (c *comparer) differsCode(o, n module.Addr, so, sn *module.Section) string {
	slotO, stubO := c.Old.Stub(o)
	slotN, stubN := c.New.Stub(n)
	if stubO || stubN {
		ko, lo, _ := SlotKey(c.Old, slotO)
		kn, ln, _ := SlotKey(c.New, slotN)
		if stubO == stubN && ko == kn && (lo == 0 || c.differs(lo, ln, module.RefAddress, 0) == "") {
			return ""
		}
		return fmt.Sprintf("calls %s instead of %s", kn, ko)
	}
	fo, fn := c.Old.FuncAt(o), c.New.FuncAt(n)
	switch {
	case fo == nil && fn == nil:
		if so.Name == sn.Name && o-so.Start == n-sn.Start {
			return ""
		}
	case fo == nil || fn == nil:
	case fo.Gap && fn.Gap:
		if fo.Hash == fn.Hash && o-fo.Entry() == n-fn.Entry() {
			return ""
		}
	case c.toNew[fo] == fn:
		if samePlace(fo, o, fn, n) {
			return ""
		}
		return "leads into the middle of " + fn.Name
	}
	name := n.String()
	if fn != nil {
		name = fn.Name
	}
	return "leads to another function, " + name
}

// samePlace reports whether two addresses in paired functions mean the same:
// the same entry, or the same place of equal bodies.
func samePlace(fo *module.Func, o module.Addr, fn *module.Func, n module.Addr) bool {
	i, j := slices.Index(fo.Entries, o), slices.Index(fn.Entries, n)
	if i >= 0 || j >= 0 {
		return i == j && len(fo.Entries) == len(fn.Entries)
	}
	return fo.Hash == fn.Hash && fo.PlaceOf(o) == fn.PlaceOf(n)
}

// key names what an address is, in words that mean the same in both builds;
// empty for what has no such name.
func (c *comparer) key(m *module.Module, a module.Addr, old bool) string {
	s := m.SectionAt(a)
	if s == nil {
		return ""
	}
	if slot, ok := m.Stub(a); ok {
		k, _, _ := SlotKey(m, slot)
		return k
	}
	if k, local, ok := SlotKey(m, a); ok && local == 0 {
		return k
	}
	switch {
	case s.Exec:
		f := m.FuncAt(a)
		if f == nil || f.Gap || f.Entry() != a {
			return ""
		}
		if !old {
			f = c.toOld[f]
		}
		if f == nil || c.toNew[f] == nil {
			return ""
		}
		return fmt.Sprintf("function %v", f.Entry())
	case s.Write:
		if !old {
			var ok bool
			if a, ok = c.data.Old(a); !ok {
				return ""
			}
		}
		return fmt.Sprintf("object %v", a)
	}
	if text := m.Text(a); len(text) > 3 {
		return "text " + text
	}
	return ""
}
