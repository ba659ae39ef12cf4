package diff

import (
	"fmt"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// JumpLen is the length of the jump that steers an entry: jmp rel32.
const JumpLen = 5

// Entry is the place in a baseline function where the jump that steers its
// entry at a goes, after endbr64 (which indirect calls need when CET is on),
// and the bytes there.
func Entry(m *module.Module, f *module.Func, a module.Addr) (module.Addr, [JumpLen]byte, error) {
	var old [JumpLen]byte
	at, part := a, f.Ranges[f.PlaceOf(a).Part]
	code := m.Bytes(module.Range{Start: at, End: part.End})
	if in, err := x86.Decode(code); err == nil && in.Kind == x86.Endbr {
		at += module.Addr(in.Len)
	}
	end := part.End
	if pad := m.Bytes(module.Range{Start: end, End: m.NextCode(a)}); pad != nil {
		end += module.Addr(module.Padding(pad))
	}
	if at+JumpLen > end {
		return 0, old, fmt.Errorf("%d bytes up to the next function, %d are needed", end-at, JumpLen)
	}
	copy(old[:], m.Bytes(module.Range{Start: at, End: at + JumpLen}))
	return at, old, nil
}

// judgeEntry refuses when something may continue inside the bytes that the
// jump at at overwrites: a branch or a call from anywhere, a jump table, the
// return of a call.
func (c *comparer) judgeEntry(f *module.Func, at module.Addr) {
	inside := func(t module.Addr) bool { return t > at && t < at+JumpLen }
	body := c.body(c.Old, f)
	for i := range body {
		in := &body[i]
		switch {
		case in.Relative() && !in.RIP && inside(module.Addr(in.Target(uint64(in.At)))):
			c.refuse(JumpIntoEntry, f.Name, "a branch at %v leads into its first bytes", in.At)
			return
		case (in.Kind == x86.Call || in.Kind == x86.CallInd) && inside(in.At+module.Addr(in.Len)):
			c.refuse(JumpIntoEntry, f.Name, "the call at %v returns into its first bytes", in.At)
			return
		}
	}
	for _, t := range f.Tables {
		for _, i := range t.Targets {
			if int(i) < len(body) && inside(body[i].At) {
				c.refuse(JumpIntoEntry, f.Name, "the jump table at %v leads into its first bytes", t.Addr)
				return
			}
		}
	}
	if i, _ := slices.BinarySearch(c.codeTargets(), at+1); i < len(c.targets) && inside(c.targets[i]) {
		c.refuse(JumpIntoEntry, f.Name, "code elsewhere leads to %v, into its first bytes", c.targets[i])
	}
}

// codeTargets are the addresses of code that the baseline's code refers to from
// other functions, sorted.
func (c *comparer) codeTargets() []module.Addr {
	if c.targets == nil {
		for _, list := range [][]*module.Func{c.Old.Funcs, c.Old.Gaps} {
			for _, f := range list {
				for i := range f.Refs {
					if s := c.Old.SectionAt(f.Refs[i].Target); s != nil && s.Exec {
						c.targets = append(c.targets, f.Refs[i].Target)
					}
				}
			}
		}
		slices.Sort(c.targets)
	}
	return c.targets
}
