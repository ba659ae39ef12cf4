package diff

import (
	"slices"
	"strings"

	"hotpatch/internal/module"
)

// twins are functions with one body, in link order: templates and stubs that
// differ only by what they refer to.
type twins struct{ olds, news []*module.Func }

// pairInOrder pairs equal bodies of a stretch. What they refer to decides
// where it tells them apart. The rest is paired in link order, if there are
// equally many on both sides and nothing says that the order changed; where
// the numbers differ, nothing tells which one went.
func (c *comparer) pairInOrder() {
	calls := c.callsOfChanged()
	c.stretches(func(olds, news []*module.Func) {
		group := make(map[[16]byte]*twins)
		var order []*twins
		for _, f := range olds {
			g := group[f.Hash]
			if g == nil {
				g = &twins{}
				group[f.Hash] = g
				order = append(order, g)
			}
			g.olds = append(g.olds, f)
		}
		for _, f := range news {
			if g := group[f.Hash]; g != nil {
				g.news = append(g.news, f)
			}
		}
		for _, g := range order {
			if len(g.olds) > 1 || len(g.news) > 1 {
				c.pairTold(g)
				c.pairCalled(g, calls)
			}
			switch {
			case len(g.olds) != len(g.news), len(g.olds) > 1 && (c.reordered(g) || calls.contradict(g)):
				continue
			case len(g.olds) == 1 && c.hasTwins(g.olds[0]) && (c.unlike(g.olds[0], g.news[0]) || calls.contradict(g)):
				continue
			}
			for i := range g.olds {
				c.pair(g.olds[i], g.news[i])
			}
		}
	})
}

// hasTwins reports whether other functions have the same body, in either build.
func (c *comparer) hasTwins(f *module.Func) bool {
	if c.kin == nil {
		c.kin = make(map[[16]byte]int)
		for _, fs := range [][]*module.Func{c.Old.Funcs, c.New.Funcs} {
			here := make(map[[16]byte]int, len(fs))
			for _, g := range fs {
				here[g.Hash]++
				c.kin[g.Hash] = max(c.kin[g.Hash], here[g.Hash])
			}
		}
	}
	return c.kin[f.Hash] > 1
}

// pairTold pairs, and takes out of g, twins whose known references are those
// of one other alone.
func (c *comparer) pairTold(g *twins) {
	says := func(m *module.Module, fs []*module.Func, old bool) map[string][]*module.Func {
		out := make(map[string][]*module.Func, len(fs))
		for _, f := range fs {
			var keys []string
			known := false
			for i := range f.Refs {
				k := c.key(m, f.Refs[i].Target, old)
				keys = append(keys, k)
				known = known || k != ""
			}
			if known {
				s := strings.Join(keys, "\n")
				out[s] = append(out[s], f)
			}
		}
		return out
	}
	olds, news := says(c.Old, g.olds, true), says(c.New, g.news, false)
	for s, o := range olds {
		if n := news[s]; len(o) == 1 && len(n) == 1 {
			c.pair(o[0], n[0])
		}
	}
	c.free(g)
}

// free takes out of g who is paired.
func (c *comparer) free(g *twins) {
	g.olds = slices.DeleteFunc(g.olds, func(f *module.Func) bool { return c.toNew[f] != nil })
	g.news = slices.DeleteFunc(g.news, func(f *module.Func) bool { return c.toOld[f] != nil })
}

// calls says which functions stand at the same place of bodies that changed.
// Such bodies may be aligned wrongly: calls tell twins apart, and pair nothing
// else.
type calls struct {
	toNew, toOld map[*module.Func]map[*module.Func]bool
}

// callsOfChanged collects what paired functions with other bodies call and
// take addresses of, of what is not paired yet.
func (c *comparer) callsOfChanged() calls {
	v := calls{make(map[*module.Func]map[*module.Func]bool), make(map[*module.Func]map[*module.Func]bool)}
	note := func(in map[*module.Func]map[*module.Func]bool, a, b *module.Func) {
		if in[a] == nil {
			in[a] = make(map[*module.Func]bool)
		}
		in[a][b] = true
	}
	for _, n := range c.New.Funcs {
		o := c.toOld[n]
		if o == nil || o.Hash == n.Hash || o.Opaque || n.Opaque {
			continue
		}
		c.alignedRefs(o, n, func(x, y *module.Ref) {
			fo, fn := c.Old.FuncAt(x.Target), c.New.FuncAt(y.Target)
			if fo == nil || fn == nil || fo.Gap || fn.Gap || fo.Entry() != x.Target || fn.Entry() != y.Target ||
				c.toNew[fo] != nil || c.toOld[fn] != nil {
				return
			}
			note(v.toNew, fo, fn)
			note(v.toOld, fn, fo)
		})
	}
	return v
}

// pairCalled pairs, and takes out of g, twins that changed bodies name
// together and with no other.
func (c *comparer) pairCalled(g *twins, v calls) {
	for _, o := range g.olds {
		for n := range v.toNew[o] {
			if len(v.toNew[o]) == 1 && len(v.toOld[n]) == 1 && slices.Contains(g.news, n) {
				c.pair(o, n)
			}
		}
	}
	c.free(g)
}

// contradict reports whether changed bodies name others together than the
// order of twins does.
func (v calls) contradict(g *twins) bool {
	for i, o := range g.olds {
		n := g.news[i]
		if s := v.toNew[o]; len(s) > 0 && !s[n] {
			return true
		}
		if s := v.toOld[n]; len(s) > 0 && !s[o] {
			return true
		}
	}
	return false
}

// reordered reports whether something says that twins are not in the same
// order in both builds: a reference that leads to something else, or to a
// function that is more like the one that another twin refers to.
func (c *comparer) reordered(g *twins) bool {
	const near = 8 // twins on either side that are looked at
	for i, o := range g.olds {
		n := g.news[i]
		if len(o.Refs) != len(n.Refs) {
			return true
		}
		for k := range o.Refs {
			x, y := o.Refs[k].Target, n.Refs[k].Target
			if c.contradict(x, y) {
				return true
			}
			here, free := c.freeLikeness(x, y)
			if !free {
				continue
			}
			for j := max(0, i-near); j < min(len(g.news), i+near+1); j++ {
				other, free := c.freeLikeness(x, g.news[j].Refs[k].Target)
				if j != i && free && other > here {
					return true
				}
			}
		}
	}
	return false
}

// unlike reports whether something that two functions with one body refer to
// is known to be something else.
func (c *comparer) unlike(o, n *module.Func) bool {
	if len(o.Refs) != len(n.Refs) {
		return true
	}
	for k := range o.Refs {
		if c.contradict(o.Refs[k].Target, n.Refs[k].Target) {
			return true
		}
	}
	return false
}

// freeLikeness is how alike two functions are that both are not paired yet.
func (c *comparer) freeLikeness(o, n module.Addr) (float64, bool) {
	fo, fn := c.Old.FuncAt(o), c.New.FuncAt(n)
	if fo == nil || fn == nil || fo.Gap || fn.Gap || c.toNew[fo] != nil || c.toOld[fn] != nil {
		return 0, false
	}
	if fo.Hash == fn.Hash {
		return 1, true
	}
	return c.likeness(fo, fn), true
}

// contradict reports whether two addresses are known to mean different things.
func (c *comparer) contradict(o, n module.Addr) bool {
	so, sn := c.Old.SectionAt(o), c.New.SectionAt(n)
	if so == nil || sn == nil {
		return so != sn
	}
	_, stubO := c.Old.Stub(o)
	_, stubN := c.New.Stub(n)
	_, _, slotO := SlotKey(c.Old, o)
	_, _, slotN := SlotKey(c.New, n)
	switch {
	case stubO || stubN || slotO || slotN:
		return c.key(c.Old, o, true) != c.key(c.New, n, false)
	case so.Exec && sn.Exec:
		fo, fn := c.Old.FuncAt(o), c.New.FuncAt(n)
		if fo == nil || fn == nil || fo.Gap || fn.Gap {
			return false
		}
		return (c.toNew[fo] != nil || c.toOld[fn] != nil) && c.toNew[fo] != fn
	case so.Write && sn.Write:
		was, okN := c.data.toOld[n]
		is, okO := c.data.toNew[o]
		return okN && was != o || okO && is != n
	}
	x, y := c.Old.Text(o), c.New.Text(n)
	return len(x) > 3 && len(y) > 3 && x != y && !versionOnly(x, y)
}
