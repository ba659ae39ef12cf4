package diff

import (
	"cmp"
	"maps"
	"slices"

	"hotpatch/internal/module"
)

// judgeNewVariables refuses a variable that the baseline does not have when one
// function sets it and another reads it: where the first has run already, as
// code does that reads a configuration, the second would find nothing. A
// function may call the one that sets what it reads, or set it itself.
func (c *comparer) judgeNewVariables() {
	type use struct{ set, read []*module.Func }
	uses := make(map[module.Addr]*use)
	for i := range c.Changes {
		f := c.Changes[i].New
		body := c.body(c.New, f)
		for k := range body {
			for _, r := range f.RefsOf(&body[k]) {
				if _, fresh := c.Fresh(r.Target); !fresh || r.Kind == module.RefCall || r.Kind == module.RefJump {
					continue
				}
				u := uses[r.Target]
				if u == nil {
					u = &use{}
					uses[r.Target] = u
				}
				switch {
				case r.Kind == module.RefAddress: // for either
					u.set, u.read = append(u.set, f), append(u.read, f)
				case stores(&body[k]):
					u.set = append(u.set, f)
				default:
					u.read = append(u.read, f)
				}
			}
		}
	}
	for _, a := range c.New.AnchorsIn(module.Range{End: c.New.ImageEnd()}) {
		u := uses[a]
		if u == nil {
			continue
		}
		for _, f := range u.read {
			other := slices.IndexFunc(u.set, func(g *module.Func) bool { return g != f })
			if other < 0 || slices.Contains(u.set, f) || slices.ContainsFunc(u.set, func(g *module.Func) bool { return hasCall(f, g) }) {
				continue
			}
			c.refuse(LiveValue, c.objectName(c.New, a), "a new variable that %s sets, which may have run already, and %s reads", u.set[other].Name, f.Name)
			break
		}
	}
}

// judgeArrays refuses when accesses of one kind go on, in even steps, from an
// object of the baseline into what looks like a variable that it does not have:
// a loop over an array, rolled out by the compiler, and the array grew.
func (c *comparer) judgeArrays() {
	type kind struct {
		opcode byte
		size   uint8
	}
	for i := range c.Changes {
		f := c.Changes[i].New
		body := c.body(c.New, f)
		at := make(map[kind][]module.Addr)
		for k := range body {
			for _, r := range f.RefsOf(&body[k]) {
				if s := c.New.SectionAt(r.Target); r.Kind == module.RefMemory && s != nil && s.Write {
					k := kind{body[k].Opcode, body[k].MemSize}
					at[k] = append(at[k], r.Target)
				}
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(at), func(a, b kind) int { return cmp.Or(cmp.Compare(a.opcode, b.opcode), cmp.Compare(a.size, b.size)) }) {
			list := at[key]
			slices.Sort(list)
			list = slices.Compact(list)
			for k := 2; k < len(list); k++ {
				a, b, next := list[k-2], list[k-1], list[k]
				_, known := c.data.Old(b)
				if _, fresh := c.Fresh(next); fresh && known && next-b == b-a {
					c.refuse(DataLayout, c.objectName(c.New, a), "%s uses every %d bytes of it up to %v, which the baseline does not have: it grew", f.Name, next-b, next)
					return
				}
			}
		}
	}
}

func hasCall(f, g *module.Func) bool {
	return slices.ContainsFunc(f.Refs, func(r module.Ref) bool {
		return (r.Kind == module.RefCall || r.Kind == module.RefJump) && r.Target == g.Entry()
	})
}
