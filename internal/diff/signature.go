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
