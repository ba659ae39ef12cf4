package diff

import (
	"hash/maphash"
	"slices"
	"sort"

	"hotpatch/internal/module"
)

func (c *comparer) pair(old, new *module.Func) bool {
	if c.toNew[old] != nil || c.toOld[new] != nil {
		return false
	}
	c.toNew[old], c.toOld[new] = new, old
	return true
}

// pairFuncs pairs what is certain from the functions themselves: names, and
// bodies that are unique; then whom those call; and then bodies that are unique
// between neighbours that are paired. A body that others have too is where it
// was only if nobody who is paired says otherwise.
func (c *comparer) pairFuncs() {
	c.pairNames()
	c.pairUnique(c.Old.Funcs, c.New.Funcs, 0, 0)
	c.follow()
	c.pairUnique(c.Old.Funcs, c.New.Funcs, 0, 30)
}

func (c *comparer) pairNames() {
	byName := func(m *module.Module) map[string]*module.Func {
		names := make(map[string]*module.Func)
		for _, f := range m.Funcs {
			for _, n := range f.Names {
				if _, dup := names[n]; dup {
					names[n] = nil
				} else {
					names[n] = f
				}
			}
		}
		return names
	}
	news := byName(c.New)
	for n, o := range byName(c.Old) {
		if f := news[n]; o != nil && f != nil {
			if !c.pair(o, f) && c.toNew[o] != f {
				c.refuse(ConflictingPairs, n, "names that were one function are two in the other build")
			}
		}
	}
}

// pairUnique pairs bodies that occur once in each list, keeps those in link
// order as anchors, and looks again between each two anchors, down to deepest.
func (c *comparer) pairUnique(olds, news []*module.Func, depth, deepest int) {
	if len(olds) == 0 || len(news) == 0 || depth > deepest {
		return
	}
	type where struct{ o, n, no, nn int }
	seen := make(map[[16]byte]*where, len(olds))
	for i, f := range olds {
		if c.toNew[f] != nil {
			continue
		}
		w := seen[f.Hash]
		if w == nil {
			w = &where{}
			seen[f.Hash] = w
		}
		w.o, w.no = i, w.no+1
	}
	for i, f := range news {
		if w := seen[f.Hash]; w != nil && c.toOld[f] == nil {
			w.n, w.nn = i, w.nn+1
		}
	}
	index := make(map[*module.Func]int, len(news))
	for i, f := range news {
		index[f] = i
	}
	var cand [][2]int
	for i, f := range olds {
		if n := c.toNew[f]; n != nil {
			if j, ok := index[n]; ok {
				cand = append(cand, [2]int{i, j})
			}
		} else if w := seen[f.Hash]; w.no == 1 && w.nn == 1 && (!c.hasTwins(f) || !c.unlike(f, news[w.n])) {
			cand = append(cand, [2]int{i, w.n})
		}
	}
	chain := longestIncreasing(cand)
	if len(chain) == 0 {
		return
	}
	grew := false
	for _, p := range chain {
		grew = c.pair(olds[p[0]], news[p[1]]) || grew
	}
	// Out of link order, but long enough that chance plays no part: moved.
	for _, p := range cand {
		if o := olds[p[0]]; o.Insts >= 12 && !o.Opaque {
			c.pair(o, news[p[1]])
		}
	}
	if !grew && depth > 0 {
		return
	}
	lo := [2]int{-1, -1}
	for _, p := range append(chain, [2]int{len(olds), len(news)}) {
		if p[0]-lo[0] > 1 && p[1]-lo[1] > 1 {
			c.pairUnique(olds[lo[0]+1:p[0]], news[lo[1]+1:p[1]], depth+1, deepest)
		}
		lo = p
	}
}

// longestIncreasing is the longest subsequence, of pairs sorted by their
// first number, in which the second number increases too.
func longestIncreasing(p [][2]int) [][2]int {
	tails := []int{}
	prev := make([]int, len(p))
	for i := range p {
		k := sort.Search(len(tails), func(k int) bool { return p[tails[k]][1] >= p[i][1] })
		prev[i] = -1
		if k > 0 {
			prev[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	var out [][2]int
	if len(tails) > 0 {
		for i := tails[len(tails)-1]; i >= 0; i = prev[i] {
			out = append(out, p[i])
		}
	}
	slices.Reverse(out)
	return out
}

// stretches calls f with each run of unpaired functions between two
// neighbours that are paired with each other in the same order.
func (c *comparer) stretches(f func(olds, news []*module.Func)) {
	index := make(map[*module.Func]int, len(c.New.Funcs))
	for i, n := range c.New.Funcs {
		index[n] = i
	}
	var cand [][2]int
	for i, o := range c.Old.Funcs {
		if n := c.toNew[o]; n != nil {
			cand = append(cand, [2]int{i, index[n]})
		}
	}
	free := func(fs []*module.Func, m map[*module.Func]*module.Func) []*module.Func {
		var out []*module.Func
		for _, f := range fs {
			if m[f] == nil {
				out = append(out, f)
			}
		}
		return out
	}
	lo := [2]int{-1, -1}
	for _, p := range append(longestIncreasing(cand), [2]int{len(c.Old.Funcs), len(c.New.Funcs)}) {
		if p[0]-lo[0] > 1 && p[1]-lo[1] > 1 {
			olds, news := free(c.Old.Funcs[lo[0]+1:p[0]], c.toNew), free(c.New.Funcs[lo[1]+1:p[1]], c.toOld)
			if len(olds) > 0 && len(news) > 0 {
				f(olds, news)
			}
		}
		lo = p
	}
}

// alike is the share of the longer body's instructions that two bodies must have
// in common to be taken for one function.
const alike = 0.5

// named is which functions the changed bodies of paired functions call or refer
// to at the same place.
func (c *comparer) named() *ballot {
	named := newBallot()
	for _, n := range c.New.Funcs {
		o := c.toOld[n]
		if o == nil || o.Hash == n.Hash || o.Opaque || n.Opaque {
			continue
		}
		c.alignedRefs(o, n, func(x, y *module.Ref) {
			fo, fn := c.Old.FuncAt(x.Target), c.New.FuncAt(y.Target)
			if fo != nil && fn != nil && !fo.Gap && !fn.Gap && fo.Entry() == x.Target && fn.Entry() == y.Target {
				named.function(fo, fn)
			}
		})
	}
	return named
}

// contradicts reports whether others are named as the counterparts of two
// functions: a body that was split may be more like the part that was taken
// out of it than like what is left.
func (b *ballot) contradicts(o, n *module.Func) bool {
	return len(b.funcs[o]) > 0 && b.funcs[o][n] == 0 || len(b.funcsBack[n]) > 0 && b.funcsBack[n][o] == 0
}

// pairNamed pairs changed bodies, wherever they lie, that are alike and that
// paired functions, changed ones, call or refer to at the same place: all of
// those that do name these two.
func (c *comparer) pairNamed(named *ballot) {
	for _, o := range c.Old.Funcs {
		if len(named.funcs[o]) != 1 || c.toNew[o] != nil {
			continue
		}
		for n := range named.funcs[o] {
			if len(named.funcsBack[n]) == 1 && max(c.likeness(o, n), c.landmarks(o, n)) > alike {
				c.pair(o, n)
			}
		}
	}
}

// pairSimilar pairs changed bodies in a stretch when they are alike and share
// something that both refer to: place alone is never enough.
func (c *comparer) pairSimilar(named *ballot) {
	c.stretches(func(olds, news []*module.Func) {
		if len(olds)*len(news) > 400 {
			return
		}
		best := func(f *module.Func, others []*module.Func, old bool) *module.Func {
			var top *module.Func
			score := alike
			for _, g := range others {
				o, n := f, g
				if !old {
					o, n = g, f
				}
				if c.toNew[o] != nil || c.toOld[n] != nil || named.contradicts(o, n) {
					continue
				}
				if s := c.likeness(o, n); s > score && c.shareEvidence(o, n) {
					top, score = g, s
				}
			}
			return top
		}
		for _, o := range olds {
			if n := best(o, news, true); n != nil && best(n, olds, false) == o {
				c.pair(o, n)
			}
		}
	})
}

// likeness is the share of instructions that two bodies have in common, of the longer one.
func (c *comparer) likeness(o, n *module.Func) float64 {
	long, short := max(o.Insts, n.Insts), min(o.Insts, n.Insts)
	if o.Opaque || n.Opaque || long == 0 || float64(short)/float64(long) < 0.5 || long > 20000 {
		return 0
	}
	common := 0
	for _, run := range align(c.body(c.Old, o), c.body(c.New, n), exact) {
		common += run.n
	}
	return float64(common) / float64(long)
}

// landmarks is the share of what two bodies refer to, texts, imports, paired
// functions and variables, that both refer to in the same order, of the longer
// list: a compiler that gives other registers changes every instruction, but
// not those. It is 0 where so few are common that chance could play a part.
func (c *comparer) landmarks(o, n *module.Func) float64 {
	const least = 8
	of := func(m *module.Module, f *module.Func, old bool) []uint64 {
		var out []uint64
		for i := range f.Refs {
			if k := c.key(m, f.Refs[i].Target, old); k != "" {
				out = append(out, maphash.String(seed, k))
			}
		}
		return out
	}
	if o.Opaque || n.Opaque || len(o.Refs) < least || len(n.Refs) < least {
		return 0
	}
	a, b := of(c.Old, o, true), of(c.New, n, false)
	common := 0
	alignKeys(a, b, 0, 0, 0, func(int, int) { common++ })
	if common < least {
		return 0
	}
	return float64(common) / float64(max(len(a), len(b)))
}

// pairMoved pairs changed bodies, wherever they lie, that have many landmarks in
// common, one of them a rare one, when no other function without a counterpart
// comes near, and that paired functions use alike: both are called, or both
// have their address taken, by a function and its counterpart.
func (c *comparer) pairMoved(named *ballot) {
	var olds, news []*module.Func
	for _, f := range c.Old.Funcs {
		if c.toNew[f] == nil {
			olds = append(olds, f)
		}
	}
	for _, f := range c.New.Funcs {
		if c.toOld[f] == nil {
			news = append(news, f)
		}
	}
	if len(olds)*len(news) > 10000 { // another compiler's build
		return
	}
	users, usersNow := c.users(c.Old, true), c.users(c.New, false)
	oldBest, newBest := make(map[*module.Func]best), make(map[*module.Func]best)
	for _, o := range olds {
		for _, n := range news {
			s := c.landmarks(o, n)
			oldBest[o], newBest[n] = oldBest[o].with(n, s), newBest[n].with(o, s)
		}
	}
	for _, o := range olds {
		n := oldBest[o].certain()
		if n == nil || newBest[n].certain() != o || named.contradicts(o, n) || !c.shareEvidence(o, n) {
			continue
		}
		for u := range users[o.Entry()] {
			if usersNow[n.Entry()][u] {
				c.pair(o, n)
				break
			}
		}
	}
}

// A user is a paired function, as the baseline has it, and how it refers to another.
type user struct {
	by   *module.Func
	kind module.RefKind
}

// users are the paired functions that refer to each address.
func (c *comparer) users(m *module.Module, old bool) map[module.Addr]map[user]bool {
	out := make(map[module.Addr]map[user]bool)
	for _, f := range m.Funcs {
		by := f
		if !old {
			by = c.toOld[f]
		}
		if by == nil || c.toNew[by] == nil {
			continue
		}
		for i := range f.Refs {
			r := &f.Refs[i]
			if out[r.Target] == nil {
				out[r.Target] = make(map[user]bool)
			}
			out[r.Target][user{by, r.Kind}] = true
		}
	}
	return out
}

// best is the likeliest counterpart of a function.
type best struct {
	f        *module.Func
	top, two float64 // of the best and of the second
}

func (b best) with(f *module.Func, score float64) best {
	if score > b.top {
		return best{f, score, b.top}
	}
	return best{b.f, b.top, max(b.two, score)}
}

// certain is the function when no other comes near.
func (b best) certain() *module.Func {
	const enough, ahead = 0.4, 2
	if b.top > enough && b.top > ahead*b.two {
		return b.f
	}
	return nil
}

var seed = maphash.MakeSeed()

// shareEvidence reports whether two bodies refer to one thing both that few
// others refer to: a string, an import, a paired function, or paired data.
func (c *comparer) shareEvidence(o, n *module.Func) bool {
	const few = 4 // functions; what everybody calls tells nothing
	seen := make(map[string]bool)
	for i := range o.Refs {
		if k := c.key(c.Old, o.Refs[i].Target, true); k != "" {
			seen[k] = true
		}
	}
	return slices.ContainsFunc(n.Refs, func(r module.Ref) bool {
		k := c.key(c.New, r.Target, false)
		return k != "" && seen[k] && c.referrers(r.Target) <= few
	})
}

// referrers is how many functions of the fixed build refer to an address.
func (c *comparer) referrers(a module.Addr) int {
	if c.usedBy == nil {
		c.usedBy = make(map[module.Addr]int)
		for _, f := range c.New.Funcs {
			last := make(map[module.Addr]bool, len(f.Refs))
			for i := range f.Refs {
				if t := f.Refs[i].Target; !last[t] {
					last[t] = true
					c.usedBy[t]++
				}
			}
		}
	}
	return c.usedBy[a]
}

// voteByRefs lets every pair of equal bodies say what their references pair.
func (c *comparer) voteByRefs() {
	c.votes.reset()
	each := func(o, n *module.Func) {
		if o.Hash != n.Hash || o.Opaque || len(o.Refs) != len(n.Refs) {
			return
		}
		for i := range o.Refs {
			c.vote(o.Refs[i].Target, n.Refs[i].Target, n)
		}
		c.voteByHandlers(o, n)
	}
	for _, o := range c.Old.Funcs {
		if n := c.toNew[o]; n != nil {
			each(o, n)
		}
	}
	if len(c.Old.Gaps) == len(c.New.Gaps) {
		for i, o := range c.Old.Gaps {
			each(o, c.New.Gaps[i])
		}
	}
	c.voteByNames()
}

// vote notes that an address of the baseline and one of the fixed build stand
// at the same place.
func (c *comparer) vote(o, n module.Addr, by *module.Func) {
	so, sn := c.Old.SectionAt(o), c.New.SectionAt(n)
	if so == nil || sn == nil || so.Name != sn.Name {
		return
	}
	switch {
	case so.Exec:
		fo, fn := c.Old.FuncAt(o), c.New.FuncAt(n)
		if fo != nil && fn != nil && !fo.Gap && !fn.Gap && fo.Entry() == o && fn.Entry() == n {
			c.votes.function(fo, fn)
		}
	case isGOT(so), c.votes.copied(o, n):
		// Slots are told by their relocations, copied objects by their names.
	case so.Write:
		c.votes.object(o, n, by)
	default:
		c.votes.constant(o, n)
	}
}

// elect pairs functions that votes name, where the votes agree.
func (c *comparer) elect() {
	for _, o := range c.Old.Funcs { // in order: the outcome must not hang on chance
		t := c.votes.funcs[o]
		if t == nil || c.toNew[o] != nil {
			continue
		}
		if n := only(t, c.toOld); n != nil && only(c.votes.funcsBack[n], c.toNew) == o {
			c.pair(o, n)
		}
	}
}

// only is the one candidate that is not paired yet, or nil when there are several.
func only(t tally, paired map[*module.Func]*module.Func) *module.Func {
	var one *module.Func
	for f := range t {
		if paired[f] != nil {
			continue
		}
		if one != nil {
			return nil
		}
		one = f
	}
	return one
}
