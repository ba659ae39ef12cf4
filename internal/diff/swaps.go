package diff

import (
	"slices"

	"hotpatch/internal/module"
)

// judgeSwaps refuses when fields changed places although every offset is used
// as before: what is computed from the one offset, or stored there, is computed
// from another one now, and the other way round. A single field that is used
// instead of another one is a fix like any other.
func (c *comparer) judgeSwaps(o, n *module.Func) {
	before, after := c.flowOf(c.Old, o).sinks, c.flowOf(c.New, n).sinks
	moves := make(map[int64]map[int64]module.Addr)
	byHash := make(map[uint64][2][]*sink)
	for i, list := range [2][]sink{before, after} {
		for k := range list {
			if s := &list[k]; len(s.leaves) > 0 {
				g := byHash[s.hash]
				g[i] = append(g[i], s)
				byHash[s.hash] = g
			}
		}
	}
	for _, g := range byHash {
		gone, come := unequal(g[0], g[1])
		if len(gone) != 1 || len(come) != 1 { // with more, which is which is a guess
			continue
		}
		for k, d := range gone[0].leaves {
			if e := come[0].leaves[k]; e != d {
				if moves[d] == nil {
					moves[d] = make(map[int64]module.Addr)
				}
				moves[d][e] = come[0].at
			}
		}
	}
	for _, d := range sortedKeys(moves) {
		for _, e := range sortedKeys(moves[d]) {
			if leads(moves, e, d) {
				c.refuse(DataLayout, n.Name, "what was at offset %#x is at %#x, and what was there has moved too (%v)", d, e, moves[d][e])
				return
			}
		}
	}
}

// sameUse reports whether the two bodies certainly use two offsets alike, in
// whatever order: the same is computed from them and stored there.
func (c *comparer) sameUse(o, n *module.Func, d, e int64) bool {
	type use struct {
		hash   uint64
		leaves [maxLeaves + 1]int64
	}
	count := make(map[use]int)
	for i, list := range [2][]sink{c.flowOf(c.Old, o).sinks, c.flowOf(c.New, n).sinks} {
		for k := range list {
			s := &list[k]
			if !slices.Contains(s.leaves, d) && !slices.Contains(s.leaves, e) {
				continue
			}
			if s.vague || len(s.leaves) > maxLeaves {
				return false
			}
			u := use{hash: s.hash}
			copy(u.leaves[:], s.leaves)
			count[u] += 1 - 2*i
		}
	}
	for _, k := range count {
		if k != 0 {
			return false
		}
	}
	return len(count) > 0
}

// unequal are the sinks of two lists whose leaves differ.
func unequal(a, b []*sink) (gone, come []*sink) {
	come = slices.Clone(b)
	for _, s := range a {
		i := slices.IndexFunc(come, func(t *sink) bool { return slices.Equal(s.leaves, t.leaves) })
		if i >= 0 {
			come = slices.Delete(come, i, i+1)
			continue
		}
		gone = append(gone, s)
	}
	for i := range gone {
		if i < len(come) && len(gone[i].leaves) != len(come[i].leaves) {
			return nil, nil
		}
	}
	return gone, come
}

// leads reports whether moves lead from one offset to another.
func leads(moves map[int64]map[int64]module.Addr, from, to int64) bool {
	seen := make(map[int64]bool)
	var walk func(d int64) bool
	walk = func(d int64) bool {
		if d == to {
			return true
		}
		if seen[d] {
			return false
		}
		seen[d] = true
		for e := range moves[d] {
			if walk(e) {
				return true
			}
		}
		return false
	}
	return walk(from)
}

func sortedKeys[V any](m map[int64]V) []int64 {
	out := make([]int64, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
