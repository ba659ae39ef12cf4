package diff

import (
	"cmp"
	"math/bits"
	"slices"

	"hotpatch/internal/module"
)

// A flag is one bit of what objects hold: in a field at an offset, or in a
// variable of the module.
type flag struct {
	object module.Addr // the variable, where the baseline keeps it; 0 for a field
	bit    int64       // 8 for each byte of the offset
}

// flags are the bits of the numbers that a body stores in objects, and the bits
// that it asks objects for (test $1, field).
func flags(w *flow) (set, asked map[flag]module.Addr) {
	const most = 8 // bits; a number of more is none
	set, asked = make(map[flag]module.Addr), make(map[flag]module.Addr)
	add := func(to map[flag]module.Addr, object module.Addr, offset, number int64, at module.Addr) {
		for n := uint64(number); n != 0 && bits.OnesCount64(uint64(number)) <= most; n &= n - 1 {
			to[flag{object, 8*offset + int64(bits.TrailingZeros64(n))}] = at
		}
	}
	for i := range w.sinks {
		s := &w.sinks[i]
		switch one := len(s.nums) == 1 && bits.OnesCount64(uint64(s.nums[0])) == 1; {
		case s.kind == sinkStore && (s.fielded || s.object != 0):
			offset := s.offset
			if s.direct {
				offset = 0
			}
			for _, n := range s.nums {
				add(set, s.object, offset, n, s.at)
			}
		case s.kind == sinkCompare && s.op == opTest && one && len(s.leaves) <= 1:
			offset := int64(0)
			if len(s.leaves) == 1 {
				offset = s.leaves[0]
			}
			add(asked, s.loaded, offset, s.nums[0], s.at)
		}
	}
	return set, asked
}

// opTest is the opcode that comparisons by test have in sinks.
const opTest = 0x84

// noteFlags keeps the bits that only the fixed build of a function sets, or asks for.
func (c *comparer) noteFlags(o, n *module.Func) {
	hadSet, hadAsked := flags(c.flowOf(c.Old, o))
	set, asked := flags(c.flowOf(c.New, n))
	for b := range set {
		if _, ok := hadSet[b]; !ok {
			c.setNow[b] = append(c.setNow[b], n)
		}
	}
	for b, at := range asked {
		if _, ok := hadAsked[b]; !ok {
			c.askedNow[b] = append(c.askedNow[b], asking{n, at})
		}
	}
}

// asking is where a function asks for a bit.
type asking struct {
	by *module.Func
	at module.Addr
}

// judgeFlags refuses when one changed function sets a bit of what objects hold
// that no code of the baseline sets, and another one asks for such a bit: objects
// that exist were made without. The two may count the offset from different
// places of the object, so that only the bit of the byte has to be the same.
func (c *comparer) judgeFlags() {
	type pair struct {
		set   flag
		asked asking
		at    int64
	}
	var found []pair
	for b := range c.setNow {
		for a, list := range c.askedNow {
			if a.bit%8 != b.bit%8 {
				continue
			}
			for _, x := range list {
				found = append(found, pair{b, x, a.bit / 8})
			}
		}
	}
	if len(found) == 0 {
		return
	}
	slices.SortFunc(found, func(x, y pair) int { // the outcome must not hang on chance
		return cmp.Or(cmp.Compare(x.set.bit, y.set.bit), cmp.Compare(x.set.object, y.set.object), cmp.Compare(x.asked.at, y.asked.at))
	})
	had := make(map[flag]bool)
	for _, f := range c.Old.Funcs {
		body := c.Old.Body(f)
		if f.Opaque || !slices.ContainsFunc(found, func(p pair) bool { return !had[p.set] && maySet(f, body, p.set) }) {
			continue
		}
		w := c.flows[f]
		if w == nil { // not kept: there may be many
			w = c.newFlow(c.Old, f)
			w.run(body)
		}
		set, _ := flags(w)
		for b := range set {
			had[b] = true
		}
	}
	for _, p := range found {
		for _, set := range c.setNow[p.set] {
			if p.asked.by != set && !had[p.set] {
				c.refuse(LiveValue, set.Name, "sets bit %d at offset %#x, which nothing set before, and %s asks for such a bit, at offset %#x (%v)",
					p.set.bit%8, p.set.bit/8, p.asked.by.Name, p.at, p.asked.at)
			}
		}
	}
}

// maySet reports whether a body stores anything where a flag is.
func maySet(f *module.Func, body []module.Instr, b flag) bool {
	if b.object != 0 {
		return slices.ContainsFunc(f.Refs, func(r module.Ref) bool { return r.Target == b.object })
	}
	return slices.ContainsFunc(body, func(in module.Instr) bool {
		return in.Disp <= b.bit/8 && in.Disp > b.bit/8-64 && isField(&in) // 64 bytes: the largest vector
	})
}
