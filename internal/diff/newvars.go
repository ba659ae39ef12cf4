package diff

import (
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

func hasCall(f, g *module.Func) bool {
	return slices.ContainsFunc(f.Refs, func(r module.Ref) bool {
		return (r.Kind == module.RefCall || r.Kind == module.RefJump) && r.Target == g.Entry()
	})
}
