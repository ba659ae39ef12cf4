package diff

import (
	"slices"

	"hotpatch/internal/module"
)

// parameters are the registers of the first six parameters, in order (psABI 3.2.3).
var parameters = [6]byte{7, 6, 2, 1, 8, 9}

// lastParameter is the number of the last parameter that a body reads, from 1;
// 0 when it reads none.
func (w *flow) lastParameter() int {
	for i := len(parameters); i > 0; i-- {
		if w.args[parameters[i-1]] {
			return i
		}
	}
	return 0
}

// judgeSignature refuses when a function that other modules call reads a
// parameter behind the last one that it read before, unless the baseline may
// have had it already: a caller hands it over, or the function hands it on.
func (c *comparer) judgeSignature(o, n *module.Func) {
	if !o.Exported || !n.Exported {
		return
	}
	old, now := c.flowOf(c.Old, o), c.flowOf(c.New, n)
	k := now.lastParameter()
	if k <= old.lastParameter() {
		return
	}
	given := false
	for _, g := range c.callers(o) {
		if g.Opaque || slices.Contains(c.flowOf(c.Old, g).handed[o.Entry()], k) {
			return
		}
		if h := c.toNew[g]; h != nil && slices.Contains(c.flowOf(c.New, h).handed[n.Entry()], k) {
			given = true
		}
	}
	if given || !c.passes(old, k) {
		c.refuse(Signature, n.Name, "exported, and reads parameter %d, in the baseline %d at most: another module that calls it may not hand it over", k, old.lastParameter())
	}
}

// judgeParameters refuses when what an exported function does with two of
// its parameters, or with the numbers it computes in floating point, fits other
// callers than before.
func (c *comparer) judgeParameters(o, n *module.Func) {
	if !o.Exported || !n.Exported {
		return
	}
	a, b := precisions(c.body(c.Old, o)), precisions(c.body(c.New, n))
	if a != 0 && b != 0 && a&b == 0 {
		c.refuse(Signature, n.Name, "exported, and computes in floating point of %d bytes, of %d in the fixed build", a, b)
	}
	was, is := c.flowOf(c.Old, o), c.flowOf(c.New, n)
	old := effects(was)
	same := common(old, effects(is))
	if same == len(was.sinks) {
		return
	}
	for i := range max(was.lastParameter(), is.lastParameter()) {
		for j := range i {
			w := c.newFlow(c.New, n)
			w.swapped = [2]byte{parameters[i], parameters[j]}
			w.run(c.body(c.New, n))
			if common(old, effects(w)) > same {
				c.refuse(Signature, n.Name, "exported, and parameters %d and %d changed places", j+1, i+1)
				return
			}
		}
	}
}

// precisions are the widths in which a body computes in floating point, bytes:
// 4, 8, or both together.
func precisions(body []module.Instr) int {
	out := 0
	for i := range body {
		switch in := &body[i]; {
		case in.Map != 1 || in.Opcode < 0x51 || in.Opcode > 0x5f || in.Opcode == 0x5a || in.Opcode == 0x5b: // not conversions
		case in.Rep:
			out |= 4
		case in.Repne:
			out |= 8
		}
	}
	return out
}

func effects(w *flow) map[uint64]int {
	out := make(map[uint64]int)
	for i := range w.sinks {
		s := &w.sinks[i]
		h := s.hash
		for _, d := range s.leaves {
			h = mix(h, uint64(d))
		}
		out[h]++
	}
	return out
}

// common is how many effects two bodies have in common.
func common(a, b map[uint64]int) int {
	n := 0
	for h, k := range a {
		n += min(k, b[h])
	}
	return n
}

// passes reports whether a body calls something that may read parameter k
// while that still is where its caller put it.
func (c *comparer) passes(w *flow, k int) bool {
	return slices.ContainsFunc(w.sites, func(s site) bool {
		if !s.intact[k-1] {
			return false
		}
		g := w.m.FuncAt(s.callee)
		return g == nil || g.Gap || g.Opaque || g == w.f || c.flowOf(w.m, g).lastParameter() >= k
	})
}
