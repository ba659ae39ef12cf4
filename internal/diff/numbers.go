package diff

import (
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// sameShape calls f with the sinks of two bodies that compute alike, from the
// same offsets, but with other numbers.
func (c *comparer) sameShape(o, n *module.Func, f func(x, y *sink)) {
	type group struct{ old, new []*sink }
	by := make(map[uint64]*group)
	var order []uint64
	for i, list := range [2][]sink{c.flowOf(c.Old, o).sinks, c.flowOf(c.New, n).sinks} {
		for k := range list {
			s := &list[k]
			key := mix(s.shape, uint64(s.object))
			for _, d := range s.leaves {
				key = mix(key, uint64(d))
			}
			g := by[key]
			if g == nil {
				g = &group{}
				by[key] = g
				order = append(order, key)
			}
			if i == 0 {
				g.old = append(g.old, s)
			} else {
				g.new = append(g.new, s)
			}
		}
	}
	for _, key := range order {
		g := by[key]
		if len(g.old) != len(g.new) {
			continue
		}
		come := slices.Clone(g.new)
		gone := slices.DeleteFunc(g.old, func(s *sink) bool {
			i := slices.IndexFunc(come, func(t *sink) bool { return t.hash == s.hash })
			if i >= 0 {
				come = slices.Delete(come, i, i+1)
			}
			return i >= 0
		})
		if len(gone) == 1 { // of several, which is which would be a guess
			f(gone[0], come[0])
		}
	}
}

// judgeNumbers notes which numbers became others where they are stored in
// objects, or compared with what objects hold; and refuses when a variable
// that no other function writes was given another number, or was computed from
// another one.
func (c *comparer) judgeNumbers(o, n *module.Func) {
	c.noteFlags(o, n)
	had := comparisons(c.flowOf(c.Old, o).sinks)
	for k, at := range comparisons(c.flowOf(c.New, n).sinks) {
		if _, ok := had[k]; !ok {
			c.compared[k] = at
		}
	}
	c.sameShape(o, n, func(x, y *sink) {
		if len(x.nums) != len(y.nums) {
			return
		}
		if x.kind == sinkStore && x.object != 0 && !x.update && !y.update && !x.fielded && c.onlyWriter(o, x.object) {
			c.refuse(InitialValue, n.Name, "gives %s another value than it has been given (%v)", c.objectName(c.Old, x.object), y.at)
		}
		for i := range x.nums {
			v := [2]int64{x.nums[i], y.nums[i]}
			if v[0] == v[1] {
				continue
			}
			switch {
			case x.kind == sinkStore && x.fielded && (!x.update || x.op == 1 || x.op == 4 || x.op == 6):
				if c.written[x.offset] == nil {
					c.written[x.offset] = make(map[[2]int64]string)
				}
				c.written[x.offset][v] = n.Name
				if f := c.writer[x.offset]; f != nil && f != n {
					c.refuse(LiveValue, n.Name, "stores other numbers than before at offset %#x, as %s does: what they mean may have changed (%v)", x.offset, f.Name, y.at)
				}
				c.writer[x.offset] = n
			case x.kind != sinkStore:
				if x.kind == sinkCall {
					c.given[v] = append(c.given[v], n)
				} else {
					c.bounds[v] = append(c.bounds[v], n)
				}
				for _, d := range x.leaves {
					if c.asked[d] == nil {
						c.asked[d] = make(map[[2]int64]module.Addr)
					}
					c.asked[d][v] = y.at
				}
			}
		}
	})
}

// held is a number that what is at an offset is compared with.
type held struct{ offset, number int64 }

func comparisons(sinks []sink) map[held]module.Addr {
	out := make(map[held]module.Addr)
	for i := range sinks {
		s := &sinks[i]
		for _, d := range s.leaves {
			for _, n := range s.nums {
				if s.kind == sinkCompare {
					out[held{d, n}] = s.at
				}
			}
		}
	}
	return out
}

// judgeHeld refuses when one number that is stored at an offset became another
// one, and what is there is compared with the new one where it was not before:
// objects that exist hold the old one.
func (c *comparer) judgeHeld() {
	for _, d := range sortedKeys(c.written) {
		for v, name := range c.written[d] {
			at, ok := c.asked[d][v]
			if !ok {
				at, ok = c.compared[held{d, v[1]}]
			}
			if ok {
				c.refuse(LiveValue, name, "stores %d at offset %#x instead of %d, and what is there is compared with the new number (%v)", v[1], d, v[0], at)
			}
		}
	}
}

// judgeRoom refuses when a number that is given to a call grew, as the size of
// what it makes may, and another function goes as far as the new number: what
// exists has the old size.
func (c *comparer) judgeRoom() {
	const least = 16 // bytes; smaller numbers are counts of other things
	for v, makers := range c.given {
		if v[0] < least || v[1] <= v[0] {
			continue
		}
		for d := int64(-1); d <= 1; d++ { // the last of n has number n-1
			for _, f := range c.bounds[[2]int64{v[0] + d, v[1] + d}] {
				if !slices.Contains(makers, f) {
					c.refuse(DataLayout, makers[0].Name, "%d becomes %d where it is given to a call, and so does a bound in %s", v[0], v[1], f.Name)
					break
				}
			}
		}
	}
}

// onlyWriter reports whether no other function than f writes to a static
// object of the baseline.
func (c *comparer) onlyWriter(f *module.Func, object module.Addr) bool {
	for _, g := range c.Old.Funcs {
		if g == f || !slices.ContainsFunc(g.Refs, func(r module.Ref) bool { return r.Target == object }) {
			continue
		}
		if g.Opaque || slices.ContainsFunc(c.flowOf(c.Old, g).sinks, func(s sink) bool { return s.kind == sinkStore && s.object == object }) {
			return false
		}
	}
	return true
}

// judgeCases refuses when the cases of a switch moved up or down in its jump
// table: the same code is reached by another number.
func (c *comparer) judgeCases(o, n *module.Func) {
	const enough = 3 // cases that moved by the same distance
	if len(o.Tables) == 0 || len(o.Tables) != len(n.Tables) {
		return
	}
	for i := range o.Tables {
		x, y := c.cases(c.Old, o, &o.Tables[i]), c.cases(c.New, n, &n.Tables[i])
		by := make(map[int]int)
		for what, k := range x {
			if at, ok := y[what]; ok && at >= 0 && k >= 0 && at != k {
				by[at-k]++
			}
		}
		for d, k := range by {
			if k >= enough && c.sameIndex(o, n) {
				c.refuse(LiveValue, n.Name, "%d cases of a switch have numbers that differ by %d (table at %v)", k, d, n.Tables[i].Addr)
				return
			}
		}
	}
}

// cases are the entries of a jump table by what they lead to, told by the code
// up to the next jump; -1 for several entries that lead to the same.
func (c *comparer) cases(m *module.Module, f *module.Func, t *module.JumpTable) map[uint64]int {
	body, w := c.body(m, f), c.flowOf(m, f)
	out := make(map[uint64]int)
	for k, at := range t.Targets {
		var h uint64
		for i := int(at); i < len(body); i++ {
			in := &body[i]
			h = mix(h, in.Shape)
			for _, r := range f.RefsOf(in) {
				h = mix(h, w.name(r.Target).hash)
			}
			if in.Kind == x86.Jmp || in.Kind == x86.Ret || in.Kind == x86.Jcc {
				break
			}
		}
		if _, dup := out[h]; dup {
			k = -1
		}
		out[h] = k
	}
	return out
}

// sameIndex reports whether two bodies compare the same values for their
// switches, whatever the numbers of cases: a switch that counts from another
// number on would compare another one.
func (c *comparer) sameIndex(o, n *module.Func) bool {
	count := make(map[uint64]int)
	for i, list := range [2][]sink{c.flowOf(c.Old, o).sinks, c.flowOf(c.New, n).sinks} {
		for k := range list {
			if s := &list[k]; s.kind == sinkCompare && s.op == 7 && len(s.nums) > 0 {
				key := s.shape
				for _, v := range s.nums[:len(s.nums)-1] {
					key = mix(key, uint64(v))
				}
				count[key] += 1 - 2*i
			}
		}
	}
	for _, k := range count {
		if k > 0 {
			return false
		}
	}
	return true
}
