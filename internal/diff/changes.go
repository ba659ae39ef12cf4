package diff

import (
	"fmt"

	"hotpatch/internal/module"
)

// findChanges decides which functions of the fixed build differ from their
// counterparts, and what was added.
func (c *comparer) findChanges() {
	for _, n := range c.New.Funcs {
		o := c.toOld[n]
		if o == nil {
			continue
		}
		if why := c.funcDiffers(o, n); why != "" {
			c.changed[n] = why
		}
	}
	c.spreadConstants()
	c.addReachable()
}

func (c *comparer) funcDiffers(o, n *module.Func) string {
	if o.Hash != n.Hash {
		if c.onlyLineNumbers(o, n) {
			return ""
		}
		return "body differs"
	}
	if o.Opaque {
		return ""
	}
	return c.refsDiffer(o, n)
}

// refsDiffer compares what two equal bodies refer to.
func (c *comparer) refsDiffer(o, n *module.Func) string {
	if why, ok := c.data.dissent[n]; ok {
		return why
	}
	for i := range o.Refs {
		ro, rn := &o.Refs[i], &n.Refs[i]
		if isTable(o, ro) && isTable(n, rn) {
			continue
		}
		if why := c.differs(ro.Target, rn.Target, rn.Kind, rn.MemSize); why != "" {
			return why
		}
		c.noteVersion(ro, rn, n)
	}
	if len(o.Tables) != len(n.Tables) {
		return "jump tables differ"
	}
	for i := range o.Tables {
		if !c.equalTables(o.Tables[i], n.Tables[i]) {
			return fmt.Sprintf("jump table at %v differs", n.Tables[i].Addr)
		}
	}
	if !c.sameExceptions(o, n) {
		return "exception table differs"
	}
	return ""
}

func isTable(f *module.Func, r *module.Ref) bool {
	for i := range f.Tables {
		if f.Tables[i].Addr == r.Target {
			return true
		}
	}
	return false
}

func (c *comparer) equalTables(a, b module.JumpTable) bool {
	if len(a.Targets) != len(b.Targets) {
		return false
	}
	for i := range a.Targets {
		if a.Targets[i] != b.Targets[i] {
			return false
		}
		if a.Targets[i] == module.Nowhere && c.differs(c.Old.Entry(a, i), c.New.Entry(b, i), module.RefJump, 0) != "" {
			return false
		}
	}
	return true
}

// noteVersion lists a text that differs in its version only.
func (c *comparer) noteVersion(o, n *module.Ref, f *module.Func) {
	so, sn := c.Old.SectionAt(o.Target), c.New.SectionAt(n.Target)
	if n.Kind != module.RefAddress || so == nil || sn == nil || so.Write || sn.Write || so.Exec || sn.Exec {
		return
	}
	if c.constant(o.Target, n.Target, n.Kind, n.MemSize) == version {
		c.Omissions = append(c.Omissions, Omission{
			f, "version text",
			fmt.Sprintf("%q becomes %q", c.Old.Text(o.Target), c.New.Text(n.Target)),
		})
	}
}

// addReachable marks as added what changed code refers to and the baseline
// does not have, also through new tables.
func (c *comparer) addReachable() {
	var work []module.Addr
	refs := func(f *module.Func) {
		for i := range f.Refs {
			work = append(work, f.Refs[i].Target)
		}
	}
	for f := range c.changed {
		refs(f)
	}
	work = append(work, c.newExports()...)
	seen := make(map[module.Addr]bool)
	for len(work) > 0 {
		t := work[len(work)-1]
		work = work[:len(work)-1]
		if seen[t] {
			continue
		}
		seen[t] = true
		if r, ok := c.New.RelocAt(t); ok {
			if a, ok := r.Leads(); ok {
				work = append(work, a)
			}
		}
		if s := c.New.SectionAt(t); s != nil && c.New.Fixed() && !s.Write && !s.Exec {
			for _, rel := range c.New.RelocsIn(module.Range{Start: t, End: c.New.ObjectEnd(t)}) {
				if a, ok := rel.Leads(); ok {
					work = append(work, a)
				}
			}
		}
		if r, ok := c.Fresh(t); ok {
			for _, rel := range c.New.RelocsIn(r) {
				if a, ok := rel.Leads(); ok {
					work = append(work, a)
				}
			}
		}
		if g := c.New.FuncAt(t); g != nil && !g.Gap && c.toOld[g] == nil && c.changed[g] == "" {
			c.changed[g] = "added"
			refs(g)
		}
	}
}
