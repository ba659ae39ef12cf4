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
		if sn := c.New.SectionAt(rn.Target); sn != nil && !sn.Write && !sn.Exec {
			c.ro[rn.Target] = ro.Target
		}
	}
	if len(o.Tables) != len(n.Tables) {
		return "jump tables differ"
	}
	for i := range o.Tables {
		if !equalTables(o.Tables[i], n.Tables[i]) {
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

func equalTables(a, b module.JumpTable) bool {
	if len(a.Targets) != len(b.Targets) {
		return false
	}
	for i := range a.Targets {
		if a.Targets[i] != b.Targets[i] {
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
		c.Omissions = append(c.Omissions, Omission{f, "version text",
			fmt.Sprintf("%q becomes %q", c.Old.Text(o.Target), c.New.Text(n.Target))})
	}
}

// spreadConstants follows a changed table back: code that refers to an
// address shortly before it may mean the same object, whose extent stripped
// code does not tell. Such code is included rather than left with old data.
func (c *comparer) spreadConstants() {
	const reach = 4096 // bytes before a changed table that may belong to it
	suspects := make(map[module.Addr]bool)
	for n, o := range c.constants() {
		if c.constant(o, n, module.RefAddress, 0) != different || c.New.Text(n) != "" {
			continue
		}
		s := c.New.SectionAt(n)
		before := c.New.AnchorsIn(module.Range{Start: max(s.Start, n-min(n, reach)), End: n})
		for i := len(before) - 1; i >= 0 && i >= len(before)-8 && c.New.Text(before[i]) == ""; i-- {
			suspects[before[i]] = true
		}
	}
	if len(suspects) == 0 {
		return
	}
	for _, n := range c.New.Funcs {
		if c.toOld[n] == nil || c.changed[n] != "" {
			continue
		}
		for i := range n.Refs {
			r := &n.Refs[i]
			if r.Kind == module.RefAddress && suspects[r.Target] && !isTable(n, r) {
				c.changed[n] = fmt.Sprintf("reads the table at %v, which may reach into changed data", r.Target)
			}
		}
	}
}

// constants are the read-only addresses at the same place of paired code,
// jump tables apart.
func (c *comparer) constants() map[module.Addr]module.Addr {
	out := make(map[module.Addr]module.Addr)
	tables := make(map[module.Addr]bool)
	for _, f := range c.New.Funcs {
		for i := range f.Tables {
			tables[f.Tables[i].Addr] = true
		}
	}
	for p := range c.votes.constants {
		if !tables[p[1]] {
			out[p[1]] = p[0]
		}
	}
	return out
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
	seen := make(map[module.Addr]bool)
	for len(work) > 0 {
		t := work[len(work)-1]
		work = work[:len(work)-1]
		if seen[t] {
			continue
		}
		seen[t] = true
		if _, local, ok := SlotKey(c.New, t); ok && local != 0 {
			t = local
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
