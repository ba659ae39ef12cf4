package diff

import (
	"cmp"
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

// judgeUses refuses when one and the same thing is computed from, or stored
// in, a field that is somewhere else now, where nothing was used before, or
// that has another width: the instructions may differ, as they do when a
// number is filled up to the size of a register.
func (c *comparer) judgeUses(o, n *module.Func) {
	type pair struct {
		old, new *sink
		several  bool
	}
	by := make(map[uint64]*pair)
	var used [2]map[int64]bool
	for i, list := range [2][]sink{c.flowOf(c.Old, o).sinks, c.flowOf(c.New, n).sinks} {
		used[i] = make(map[int64]bool)
		for k := range list {
			s := &list[k]
			for _, d := range s.leaves {
				used[i][d] = true
			}
			if s.what == 0 || len(s.leaves) == 0 {
				continue
			}
			p := by[s.what]
			if p == nil {
				p = &pair{}
				by[s.what] = p
			}
			at := &p.old
			if i == 1 {
				at = &p.new
			}
			if *at == nil {
				*at = s
			}
			p.several = p.several || !slices.Equal((*at).leaves, s.leaves) || !s.part && !slices.Equal((*at).widths, s.widths)
		}
	}
	moves := make(map[[2]int64]module.Addr)
	half := false // a field left an offset for good, or came to one that was free
	for _, p := range by {
		if p.several || p.old == nil || p.new == nil || len(p.old.leaves) != len(p.new.leaves) || len(p.old.widths) != len(p.old.leaves) ||
			len(p.new.widths) != len(p.new.leaves) {
			continue
		}
		for k, d := range p.old.leaves {
			e, u, v := p.new.leaves[k], p.old.widths[k], p.new.widths[k]
			switch {
			case d != e && u == 0 && v == 0: // of an address, which may be a sum like any other
				moves[[2]int64{d, e}] = p.new.at
				continue
			case d != e && !used[1][d] && !used[0][e]:
				c.refuse(DataLayout, n.Name, "what was at offset %#x is at %#x in the fixed build (%v)", d, e, p.new.at)
			case d != e:
				moves[[2]int64{d, e}] = p.new.at
				half = half || !used[1][d] || !used[0][e]
				continue
			case d == e && !p.old.part && !p.new.part && !p.new.fills() && u&^filled != v&^filled && u+v != 4+8: // 4 plain bytes may be the half of 8
				c.refuse(DataLayout, n.Name, "the field at offset %#x is used with %d bytes, with %d in the fixed build (%v)", d, u&^filled, v&^filled, p.new.at)
			default:
				continue
			}
			return
		}
	}
	for m, at := range moves {
		if half && len(moves) > 1 {
			c.refuse(DataLayout, n.Name, "what was at offset %#x is at %#x in the fixed build, and others moved too (%v)", m[0], m[1], at)
			return
		}
	}
}

// fills reports whether a store is of bytes that are all the same, as memset's
// are: they say nothing of fields.
func (s *sink) fills() bool { return s.isNum && (s.num == 0 || s.num == -1) }

// judgePlaces refuses when a call is given what is in a field where it was given
// the field's address, or the other way round: an array became a pointer. The
// address of another field, that none was asked for before, moved.
func (c *comparer) judgePlaces(o, n *module.Func) {
	var given [2]map[uint64]*sink // the only one of a place
	var taken [2]map[int64]bool   // the offsets of addresses
	for i, w := range []*flow{c.flowOf(c.Old, o), c.flowOf(c.New, n)} {
		given[i], taken[i] = make(map[uint64]*sink), make(map[int64]bool)
		for k := range w.sinks {
			s := &w.sinks[k]
			if s.place == 0 || !w.pointers[s.field.base] {
				continue
			}
			if other, twice := given[i][s.place]; twice && (other == nil || other.field != s.field) {
				s = nil
			}
			given[i][w.sinks[k].place] = s
			taken[i][w.sinks[k].field.offset] = taken[i][w.sinks[k].field.offset] || w.sinks[k].field.width == 0
		}
	}
	for _, place := range sortedKeys(given[0]) {
		x, y := given[0][place], given[1][place]
		if x == nil || y == nil {
			continue
		}
		f, g := x.field, y.field
		switch {
		case f.offset == g.offset && f.width == 0 && g.width == 8:
			c.refuse(DataLayout, n.Name, "a call is given what is at offset %#x, and was given its address: an array became a pointer (%v)", f.offset, y.at)
		case f.offset == g.offset && f.width == 8 && g.width == 0:
			c.refuse(DataLayout, n.Name, "a call is given the address of what is at offset %#x, and was given what is there: a pointer became an array (%v)", f.offset, y.at)
		case f.offset != g.offset && f.width == 0 && g.width == 0 && !taken[1][f.offset] && !taken[0][g.offset]:
			c.refuse(DataLayout, n.Name, "a call is given the address of what is at offset %#x, and was given that of what is at %#x (%v)", g.offset, f.offset, y.at)
		default:
			continue
		}
		return
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

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
