package diff

import (
	"debug/elf"
	"slices"

	"hotpatch/internal/module"
)

// onlyAtStart reports whether a function of the baseline runs when the module
// is loaded or the first time that something asks for it, and at no other time:
// the loader or pthread_once calls it, or only such functions do.
func (c *comparer) onlyAtStart(f *module.Func) bool {
	if c.atStart == nil {
		c.atStart = make(map[*module.Func]bool)
		for _, a := range c.initSlots() {
			if g := c.Old.FuncAt(a); g != nil && g.Entry() == a {
				c.atStart[g] = true
			}
		}
		for _, g := range c.calledOnce() {
			c.atStart[g] = true
		}
		if len(c.atStart) > 0 {
			c.spreadStart()
		}
	}
	return c.atStart[f]
}

// spreadStart goes on to functions that are only called by those found so far.
func (c *comparer) spreadStart() {
	held := make(map[module.Addr]bool) // a pointer may lead there
	for _, list := range [][]*module.Func{c.Old.Funcs, c.Old.Gaps} {
		for _, f := range list {
			for i := range f.Refs {
				if k := f.Refs[i].Kind; k == module.RefAddress || k == module.RefMemory || f.Gap {
					held[f.Refs[i].Target] = true
				}
			}
		}
	}
	for _, r := range c.Old.Relocs {
		if a, ok := r.Leads(); ok {
			held[a] = true
		}
	}
	for grew := true; grew; {
		grew = false
		for _, f := range c.Old.Funcs {
			if c.atStart[f] || f.Exported || held[f.Entry()] || len(f.Entries) > 1 || f.Orphan {
				continue
			}
			by := c.callers(f)
			if len(by) > 0 && !slices.ContainsFunc(by, func(g *module.Func) bool { return !c.atStart[g] && g != f }) &&
				slices.ContainsFunc(by, func(g *module.Func) bool { return g != f }) {
				c.atStart[f], grew = true, true
			}
		}
	}
}

// initSlots are the functions that the loader calls: DT_INIT, .init_array, and
// the resolvers of indirect functions.
func (c *comparer) initSlots() []module.Addr {
	out := slices.Clone(c.Old.Init)
	for _, r := range c.Old.Relocs {
		if r.Type == elf.R_X86_64_IRELATIVE {
			out = append(out, module.Addr(r.Addend))
		}
	}
	for _, s := range c.Old.Symbols {
		if s.Defined && s.Type == elf.STT_GNU_IFUNC {
			out = append(out, s.Addr)
		}
	}
	for _, name := range []string{".init_array", ".preinit_array"} {
		if s := c.Old.Section(name); s != nil {
			for _, r := range c.Old.RelocsIn(s.Range) {
				if a, ok := r.Leads(); ok {
					out = append(out, a)
				}
			}
		}
	}
	return out
}
