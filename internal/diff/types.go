package diff

import (
	"hotpatch/internal/debuginfo"
	"hotpatch/internal/module"
)

// judgeTypes compares the types that changed functions use, where both builds
// have debug information.
func (c *comparer) judgeTypes() {
	if c.types == nil {
		return
	}
	old, new, err := c.types()
	if err != nil || old == nil || new == nil {
		return
	}
	var uses []debuginfo.Use
	for _, ch := range c.Changes {
		u := debuginfo.Use{Name: ch.New.Name, New: uint64(ch.New.Entry()), NewData: writable(c.New, ch.New)}
		if ch.Old != nil {
			u.Old, u.OldData = uint64(ch.Old.Entry()), writable(c.Old, ch.Old)
			u.Exported = ch.Old.Exported && ch.New.Exported
		}
		uses = append(uses, u)
	}
	found, err := debuginfo.Compare(old, new, uses)
	if err != nil {
		return
	}
	c.Typed = true
	for _, f := range found {
		switch f.Kind {
		case debuginfo.Moved:
			c.refuse(DataLayout, f.Name, "%s (debug information)", f.Detail)
		case debuginfo.Renumber:
			c.refuse(LiveValue, f.Name, "%s (debug information)", f.Detail)
		case debuginfo.Parameter:
			c.refuse(Signature, f.Name, "%s (debug information)", f.Detail)
		case debuginfo.Padding:
			c.remark(NoEffect, f.Name, "%s (debug information)", f.Detail)
		}
	}
}

// writable are the addresses of writable data that a function refers to.
func writable(m *module.Module, f *module.Func) []uint64 {
	var out []uint64
	for i := range f.Refs {
		if s := m.SectionAt(f.Refs[i].Target); s != nil && s.Write && !isGOT(s) {
			out = append(out, uint64(f.Refs[i].Target))
		}
	}
	return out
}
