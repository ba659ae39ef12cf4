package diff

import (
	"debug/elf"
	"slices"

	"hotpatch/internal/module"
)

// An insertion is what only the fixed build has in a segment of constants that
// the loader relocates (vtables, type information, tables of callbacks): one
// stretch, put into what is the same in both.
type insertion struct {
	module.Range              // in the fixed build; it may reach into what both builds have
	certain      module.Range // the part that cannot be the baseline's
	head, tail   uint64       // bytes before and behind it that are the same
}

// resolve turns the votes into pairs, and finds new constants.
func (c *comparer) resolve() {
	c.data = c.votes.resolve(c.Old, c.New)
	c.findInsertions()
}

// findInsertions looks for new constants. A vtable is referred to behind its
// head, so that the growth of a segment has to be found by its content.
func (c *comparer) findInsertions() {
	for more := true; more; {
		more = false // pointers from one segment lead into another
		for i := range c.data.segments {
			s := &c.data.segments[i]
			sec := c.New.SectionAt(s.new.Start)
			if s.added != nil || s.new.Len() <= s.old.Len() || sec == nil || !constants(sec) {
				continue
			}
			if s.added = c.insertion(s); s.added != nil && !c.holds(s) {
				s.added = nil
			}
			more = more || s.added != nil
		}
	}
}

// constants reports whether a section holds constants that the loader relocates.
func constants(s *module.Section) bool { return s.Relro && !s.NoBits && s.Name == ".data.rel.ro" }

func (c *comparer) insertion(s *segment) *insertion {
	lo, ln := s.old.Len(), s.new.Len()
	head, tail := c.common(s, false), c.common(s, true)
	between := lo
	if head+tail < lo {
		if !c.nothing(module.Range{Start: s.old.Start + module.Addr(head), End: s.old.End - module.Addr(tail)}) {
			return nil
		}
		between = head + tail
	}
	at := func(n uint64) module.Addr { return s.new.Start + module.Addr(n) }
	// Where head and tail share bytes, the stretch may begin anywhere in them.
	first, last := between-tail, head
	length := ln - between
	if last-first >= length || !c.whole(s, first, last, length) {
		return nil
	}
	return &insertion{
		Range:   module.Range{Start: at(first), End: at(last + length)},
		certain: module.Range{Start: at(last), End: at(first + length)},
		head:    first, tail: ln - last - length,
	}
}

// whole reports whether what is new is whole objects of C++ classes: without
// that, it may be the end of a table that grew. It begins between first and
// last, bytes behind the segment's start, and has a length.
func (c *comparer) whole(s *segment, first, last, length uint64) bool {
	const head, slot = 16, 8
	begins := func(a module.Addr) bool {
		_, info := typeInfo(c.New, a)
		return info || Class(c.New, a+head)
	}
	for off := first; off <= last; off += slot {
		from := s.new.Start + module.Addr(off)
		to := from + module.Addr(length)
		known := c.New.AnchorAt(to)&(module.AnchorTaken|module.AnchorPointer|module.AnchorSymbol) != 0
		if begins(from) && (to == s.new.End || begins(to) || known) {
			return true
		}
	}
	return false
}

// nothing reports whether a stretch of the baseline is alignment of what
// follows, which may be less now, or copied objects that the fixed build lacks.
func (c *comparer) nothing(r module.Range) bool {
	const align = 64 // of an object, at most
	n := r.Len()
	for _, o := range c.votes.copies[0] {
		if r.Contains(o.Start) {
			n -= o.Len()
		}
	}
	unknown := func(a module.Addr) bool { return !c.votes.copied(a, 0) }
	return n < align && !slices.ContainsFunc(c.Old.Bytes(r), func(b byte) bool { return b != 0 }) &&
		!slices.ContainsFunc(c.Old.RelocsIn(r), func(r module.Reloc) bool { return r.Type != elf.R_X86_64_COPY }) &&
		!slices.ContainsFunc(c.Old.AnchorsIn(r), unknown)
}

// common is how many bytes are the same at the start or the end of a segment.
func (c *comparer) common(s *segment, end bool) uint64 {
	lo, ln := s.old.Len(), s.new.Len()
	a, b := c.Old.Bytes(s.old), c.New.Bytes(s.new)
	const slot = 8
	for n := uint64(0); ; {
		x, y := n, n // offsets of what is compared next
		if end {
			x, y = lo-n-slot, ln-n-slot
		}
		if n+slot <= lo {
			o, isO := c.Old.RelocAt(s.old.Start + module.Addr(x))
			w, isN := c.New.RelocAt(s.new.Start + module.Addr(y))
			if isO && isN && (s.sameOffset(o, w) || c.sameSlot(o, w)) {
				n += slot
				continue
			}
			if isO || isN {
				return n
			}
		}
		if end {
			x, y = lo-n-1, ln-n-1
		}
		if n == lo || a[x] != b[y] {
			return n
		}
		n++
	}
}

// sameOffset reports whether two pointers lead into the segment itself, as far
// from its start, or from its end.
func (s *segment) sameOffset(o, n module.Reloc) bool {
	a, okO := o.Leads()
	b, okN := n.Leads()
	return okO && okN && s.old.Contains(a) && s.new.Contains(b) &&
		(a-s.old.Start == b-s.new.Start || s.old.End-a == s.new.End-b)
}

// sameSlot reports whether two pointers lead to the same, or to functions with
// equal bodies of which it is not known yet who is who.
func (c *comparer) sameSlot(o, n module.Reloc) bool {
	a, _ := o.Leads()
	b, _ := n.Leads()
	f, g := c.Old.FuncAt(a), c.New.FuncAt(b)
	if f != nil && g != nil && !f.Gap && !g.Gap && c.toNew[f] == nil && c.toOld[g] == nil {
		return o.Type == n.Type && o.Sym == n.Sym && o.Version == n.Version && f.Hash == g.Hash && f.PlaceOf(a) == g.PlaceOf(b)
	}
	return c.slotDiffers(o, n) == ""
}

// holds reports whether what counts as the same has the same pointers, now
// that the insertion says what is what.
func (c *comparer) holds(s *segment) bool {
	for _, n := range c.New.RelocsIn(s.new) {
		if a, ok := s.oldAt(n.Addr); ok {
			if o, ok := c.Old.RelocAt(a); !ok || !c.sameSlot(o, n) {
				return false
			}
		}
	}
	return true
}

// oldAt is where the baseline has what the fixed build has in the segment, at a.
func (s *segment) oldAt(a module.Addr) (module.Addr, bool) {
	off := uint64(a - s.new.Start)
	switch {
	case s.sure, s.added != nil && off < s.added.head:
		return s.old.Start + module.Addr(off), true
	case s.added != nil && s.new.Len()-off <= s.added.tail:
		return s.old.End - (s.new.End - a), true
	}
	return 0, false
}
