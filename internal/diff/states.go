package diff

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// A spot is what holds a number as long as an object lives: a variable of the
// module, or the field of objects at an offset.
type spot struct {
	object module.Addr // where the baseline keeps it; 0 for a field
	offset int64
}

func (a spot) compare(b spot) int {
	return cmp.Or(cmp.Compare(a.object, b.object), cmp.Compare(a.offset, b.offset))
}

// A renumbering is what one changed function asks a spot for, or stores there,
// in one build only.
type renumbering struct {
	by                   *module.Func
	at                   module.Addr
	unasked, asked       []int64 // compared for equality with what is there
	unstored, stored     []int64
	dispatched, restored bool // by the number there; other numbers are stored there
}

// asks are the numbers that a body compares with what a spot holds: for
// equality, by the bits of a mask, or by the cases of a switch.
func asks(w *flow) map[spot]map[int64]module.Addr {
	out := make(map[spot]map[int64]module.Addr)
	for i := range w.sinks {
		s := &w.sinks[i]
		if s.kind != sinkCompare || len(s.nums) != 1 {
			continue
		}
		at, ok := s.spotAsked()
		if k := len(s.widths); !ok || k > 0 && character(s.widths[k-1]&^filled, at.offset, s.nums[0]) {
			continue
		}
		switch {
		case s.op == opCompare && s.cond == condEqual:
			note(out, at, s.nums[0], s.at)
		case s.op == opBit:
			for m := uint64(s.nums[0]); m != 0; m &= m - 1 {
				note(out, at, int64(bits.TrailingZeros64(m)), s.at)
			}
		}
	}
	return out
}

// The opcodes that comparisons have in sinks, and a condition.
const (
	opCompare = 7
	opBit     = 0xa3
	condEqual = 4
)

// spotAsked is the one spot whose content a comparison looks at.
func (s *sink) spotAsked() (spot, bool) {
	switch {
	case s.loaded != 0 && len(s.leaves) == 0:
		return spot{object: s.loaded}, true
	case s.loaded == 0 && len(s.leaves) > 0 && len(s.widths) == len(s.leaves) && s.widths[len(s.widths)-1] != 0:
		return spot{offset: s.leaves[len(s.leaves)-1]}, true
	}
	return spot{}, false
}

// puts are the numbers that a body stores in spots, or adds to what is there as flags.
func puts(w *flow) map[spot]map[int64]module.Addr {
	out := make(map[spot]map[int64]module.Addr)
	for i := range w.sinks {
		s := &w.sinks[i]
		switch flag := s.update && s.op == 1 && len(s.nums) == 1; {
		case s.kind != sinkStore || s.update && !flag || !s.isNum && !flag || character(s.size, s.offset, s.nums[0]):
		case s.object != 0 && s.direct:
			note(out, spot{object: s.object}, s.nums[0], s.at)
		case s.fielded:
			note(out, spot{offset: s.offset}, s.nums[0], s.at)
		}
	}
	return out
}

// character reports whether a number of some bytes at an offset may be one of a
// text: printable, or what a pointer to a byte leads to.
func character(width uint8, offset, n int64) bool {
	return width == 1 && (offset == 0 || n >= ' ' && n <= '~')
}

func note(to map[spot]map[int64]module.Addr, at spot, n int64, by module.Addr) {
	if to[at] == nil {
		to[at] = make(map[int64]module.Addr)
	}
	to[at][n] = by
}

// noteStates keeps where a changed function uses other numbers than before for
// what a spot holds.
func (c *comparer) noteStates(o, n *module.Func) {
	wo, wn := c.flowOf(c.Old, o), c.flowOf(c.New, n)
	asksO, asksN, putsO, putsN := asks(wo), asks(wn), puts(wo), puts(wn)
	all := make(map[spot]bool)
	for _, m := range []map[spot]map[int64]module.Addr{asksO, asksN, putsO, putsN} {
		for at := range m {
			all[at] = true
		}
	}
	for at := range all {
		r := renumbering{
			by: n, unasked: lacks(asksO[at], asksN[at]), asked: lacks(asksN[at], asksO[at]),
			unstored: lacks(putsO[at], putsN[at]), stored: lacks(putsN[at], putsO[at]),
		}
		const cases = 3 // and more are states, not a test of one number
		several := func(old, new map[int64]module.Addr) bool { return len(old) >= cases && len(new) >= cases }
		tables := len(o.Tables) > 0 && len(n.Tables) > 0
		r.dispatched = several(asksO[at], asksN[at]) || tables && (at.offset != 0 && several(putsO[at], putsN[at]) || switchesOn(wo, at) && switchesOn(wn, at))
		r.restored = len(r.unstored)+len(r.stored) > 0 && len(putsO[at]) > 1
		if len(r.unasked)+len(r.asked)+len(r.unstored)+len(r.stored) == 0 {
			continue
		}
		for _, k := range slices.Concat(r.asked, r.stored) {
			r.at = max(r.at, asksN[at][k], putsN[at][k])
		}
		c.states[at] = append(c.states[at], r)
	}
}

// switchesOn reports whether a body compares what a spot holds as before a
// jump through a table: the cases are not above a number.
func switchesOn(w *flow, at spot) bool {
	return slices.ContainsFunc(w.sinks, func(s sink) bool {
		k, ok := s.spotAsked()
		return ok && k == at && s.kind == sinkCompare && s.op == opCompare && len(s.nums) == 1 && unsigned(s.cond) == condAbove
	})
}

const condAbove = 6 // or not below or equal

// lacks are the numbers that only the first has.
func lacks(a, b map[int64]module.Addr) []int64 {
	var out []int64
	for _, n := range sortedKeys(a) {
		if _, ok := b[n]; !ok {
			out = append(out, n)
		}
	}
	return out
}

// judgeStates refuses when the numbers that a spot may hold mean something else
// in the fixed build, as when a name is put into an enumeration: one function
// asks for other numbers, and another one that changed uses just those
// differently. One function alone that asks for another number is a fix.
func (c *comparer) judgeStates() {
	for _, at := range slices.SortedFunc(maps.Keys(c.states), spot.compare) {
		list := c.states[at]
		for i := range list {
			r := &list[i]
			where := fmt.Sprintf("offset %#x", at.offset)
			if at.object != 0 {
				where = c.objectName(c.Old, at.object)
			}
			if r.dispatched && r.restored {
				c.refuse(LiveValue, r.by.Name, "goes on by the number at %s, and stores others there than before (%v)", where, r.at)
				break
			}
			if len(r.unasked) > 0 && len(r.asked) > 0 {
				if other := c.usesOther(at, r); other != nil {
					c.refuse(LiveValue, r.by.Name, "compares what is at %s with %v, no longer with %v, and %s uses other numbers, too (%v)", where, r.asked, r.unasked, other.Name, r.at)
					break
				}
			}
			if k := slices.IndexFunc(list, func(s renumbering) bool {
				return s.by != r.by && meets(r.unstored, s.stored) && meets(r.stored, s.unstored)
			}); k >= 0 {
				c.refuse(LiveValue, r.by.Name, "stores %v at %s instead of %v, and %s the other way round (%v)", r.stored, where, r.unstored, list[k].by.Name, r.at)
				break
			}
		}
	}
}

// usesOther is another changed function that a number which is not asked for
// any more has gone from, or one that is asked for now has come to.
func (c *comparer) usesOther(at spot, r *renumbering) *module.Func {
	for _, k := range slices.SortedFunc(maps.Keys(c.states), spot.compare) {
		list := c.states[k]
		for i := range list {
			if s := &list[i]; s.by != r.by && len(s.unstored) > 0 && len(s.stored) > 0 && (meets(s.unstored, r.unasked) || meets(s.stored, r.asked)) {
				return s.by
			}
		}
	}
	for i := range c.Changes {
		ch := &c.Changes[i]
		switch {
		case ch.New == r.by:
			continue
		case ch.Old == nil:
			if stored := puts(c.flowOf(c.New, ch.New))[at]; slices.ContainsFunc(r.asked, func(n int64) bool { return stored[n] != 0 }) {
				return ch.New
			}
			continue
		}
		more, all := immediates(c.body(c.New, ch.New)), 0
		for n, k := range immediates(c.body(c.Old, ch.Old)) {
			more[n] -= k
		}
		for _, k := range more {
			all += k
		}
		if all != 0 {
			continue // something was added or went
		}
		if slices.ContainsFunc(r.unasked, func(n int64) bool { return more[n] < 0 }) || slices.ContainsFunc(r.asked, func(n int64) bool { return more[n] > 0 }) {
			return ch.New
		}
	}
	return nil
}

// immediates counts the numbers in a body: immediate operands, what lea adds,
// and the one of inc.
func immediates(body []module.Instr) map[int64]int {
	out := make(map[int64]int)
	for i := range body {
		switch in := &body[i]; {
		case in.Kind != x86.Other:
		case in.ImmLen > 0 && in.ImmAddr == 0:
			out[in.Imm]++
		case isLEA(in) && !stackBased(in):
			out[in.Disp]++
		case in.Map == 0 && in.Opcode == 0xff && in.ModRM>>3&7 == 0:
			out[1]++
		}
	}
	return out
}

func meets(a, b []int64) bool {
	return slices.ContainsFunc(a, func(n int64) bool { return slices.Contains(b, n) })
}
