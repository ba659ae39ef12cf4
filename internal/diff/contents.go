package diff

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"hotpatch/internal/module"
)

// judgeData compares the contents and the layout of writable sections.
func (c *comparer) judgeData() {
	for i := range c.data.segments {
		s := &c.data.segments[i]
		sec := c.New.SectionAt(s.new.Start)
		if sec == nil || isGOT(sec) || sec.Name == ".dynamic" {
			continue
		}
		if strings.HasSuffix(sec.Name, "_array") && s.old.Len() != s.new.Len() {
			c.refuse(Constructor, sec.Name, "%d functions that run at loading or unloading become %d", s.old.Len()/8, s.new.Len()/8)
			continue
		}
		if s.added != nil {
			c.judgePointers(s)
			continue // the rest was compared
		}
		fresh := c.fresh(s)
		if s.old.Len() != s.new.Len() && !c.explained(s, fresh) {
			why := "it grew, or something new follows it"
			if s.new.Len() < s.old.Len() {
				why = "it shrank, or what followed it is gone or not referred to any more"
			}
			c.refuse(DataLayout, c.objectName(c.Old, s.old.Start), "%d bytes up to the next known object become %d: %s", s.old.Len(), s.new.Len(), why)
			continue
		}
		if !sec.NoBits {
			c.judgeContent(s, sec, fresh)
		}
	}
}

// judgeContent compares what the loader put into a segment.
func (c *comparer) judgeContent(s *segment, sec *module.Section, fresh []module.Addr) {
	n := min(s.old.Len(), s.new.Len())
	if len(fresh) > 0 && s.old.Len() != s.new.Len() {
		n = min(n, uint64(fresh[0]-s.new.Start))
	}
	code := InitialValue
	switch {
	case sec.Name == ".init_array" || sec.Name == ".fini_array":
		code = Constructor
	case sec.Relro:
		code = ConstantData
	}
	a := bytes.Clone(c.Old.Bytes(module.Range{Start: s.old.Start, End: s.old.Start + module.Addr(n)}))
	b := bytes.Clone(c.New.Bytes(module.Range{Start: s.new.Start, End: s.new.Start + module.Addr(n)}))
	olds, news := c.Old.RelocsIn(s.old), c.New.RelocsIn(s.new)
	at := func(m []module.Reloc, base module.Addr, k int) uint64 {
		if k < len(m) {
			return uint64(m[k].Addr - base)
		}
		return ^uint64(0)
	}
	for i, j := 0, 0; ; {
		x, y := at(olds, s.old.Start, i), at(news, s.new.Start, j)
		if n < 8 || min(x, y) > n-8 {
			break
		}
		if x != y {
			c.refuse(code, c.objectName(c.Old, s.old.Start+module.Addr(min(x, y))), "a pointer became a number, or a number a pointer")
			return
		}
		binary.LittleEndian.PutUint64(a[x:], 0)
		binary.LittleEndian.PutUint64(b[x:], 0)
		if why := c.slotDiffers(olds[i], news[j]); why != "" && !c.taken(olds[i], news[j]) && !c.uncovered(olds[i], news[j]) {
			c.refuse(code, c.objectName(c.Old, olds[i].Addr), "%s", why)
		}
		i, j = i+1, j+1
	}
	for k := range a {
		if a[k] != b[k] {
			o, w := s.old.Start+module.Addr(k), s.new.Start+module.Addr(k)
			if c.versionAt(o, w) {
				continue
			}
			c.refuse(code, c.objectName(c.Old, o), "initial byte %#02x becomes %#02x", a[k], b[k])
			return
		}
	}
}

// uncovered reports whether two pointers lead into code without unwind
// information, for which the builds are refused already.
func (c *comparer) uncovered(o, n module.Reloc) bool {
	to, _ := o.Leads()
	tn, _ := n.Leads()
	f, g := c.Old.FuncAt(to), c.New.FuncAt(tn)
	return f != nil && g != nil && f.Gap && g.Gap && slices.ContainsFunc(c.Reasons, func(r Reason) bool { return r.Code == OutsideFDE })
}

// judgePointers compares what the pointers around an insertion lead to.
func (c *comparer) judgePointers(s *segment) {
	for _, n := range c.New.RelocsIn(s.new) {
		a, ok := s.oldAt(n.Addr)
		if o, _ := c.Old.RelocAt(a); ok {
			if why := c.slotDiffers(o, n); why != "" {
				c.refuse(ConstantData, c.objectName(c.Old, a), "%s", why)
			}
		}
	}
}

// judgeMoved refuses when a variable went to another section, as one does that
// starts with zero in one build and with another value in the other: the same
// place of a body refers to both, and neither is anything else in the other build.
func (c *comparer) judgeMoved() {
	for i := range c.Changes {
		o, n := c.Changes[i].Old, c.Changes[i].New
		if o == nil || o.Opaque || n.Opaque {
			continue
		}
		c.alignedRefs(o, n, func(x, y *module.Ref) {
			so, sn := c.Old.SectionAt(x.Target), c.New.SectionAt(y.Target)
			if so == nil || sn == nil || so.Name == sn.Name || !so.Write || !sn.Write || isGOT(so) || isGOT(sn) {
				return
			}
			if _, ok := c.data.toNew[x.Target]; ok {
				return
			}
			if _, ok := c.data.toOld[y.Target]; !ok {
				c.refuse(InitialValue, c.objectName(c.Old, x.Target), "lies in %s in the fixed build, no longer in %s", sn.Name, so.Name)
			}
		})
	}
}

func (c *comparer) slotDiffers(o, n module.Reloc) string {
	if o.Type != n.Type || o.Sym != n.Sym || o.Version != n.Version || o.Sym != "" && o.Addend != n.Addend {
		return fmt.Sprintf("pointer to %s%+d becomes %s%+d", o.Sym, o.Addend, n.Sym, n.Addend)
	}
	to, okO := o.Leads()
	tn, okN := n.Leads()
	if o.Type == elf.R_X86_64_IRELATIVE {
		to, tn, okO, okN = module.Addr(o.Addend), module.Addr(n.Addend), true, true
	}
	if o.Sym != "" || !okO || !okN {
		return ""
	}
	if why := c.differs(to, tn, module.RefAddress, 0); why != "" {
		return "pointer " + why
	}
	return ""
}

// versionAt reports whether the byte belongs to a text that differs in its version only.
func (c *comparer) versionAt(o, n module.Addr) bool {
	start := func(m *module.Module, a module.Addr) module.Addr {
		s := m.SectionAt(a)
		if l := m.AnchorsIn(module.Range{Start: s.Start, End: a + 1}); len(l) > 0 {
			return l[len(l)-1]
		}
		return s.Start
	}
	return c.constant(start(c.Old, o), start(c.New, n), module.RefAddress, 0) == version
}
