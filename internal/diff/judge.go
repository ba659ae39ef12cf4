package diff

import (
	"bytes"
	"debug/elf"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hotpatch/internal/module"
)

// judge looks for everything that makes the difference unsafe in a living process.
func (c *comparer) judge() {
	for _, m := range []*module.Module{c.Old, c.New} {
		switch why := m.Uncertain(); {
		case why != "":
			c.refuse(NotPositionIndependent, m.Name, "linked at a fixed address, and it %s: addresses cannot be told from numbers", why)
		case c.Old.Type != c.New.Type:
			c.refuse(NotPositionIndependent, m.Name, "one build is linked at a fixed address, and the other is not")
		}
	}
	if len(c.Changes) == 0 && len(c.Reasons) == 0 {
		// Data may still differ, but no code that runs does.
		c.judgeExports()
		c.judgeTLS()
		c.judgeGaps()
		c.judgeData()
		return
	}
	if c.judgeChurn() {
		return
	}
	c.judgeExports()
	c.judgeTLS()
	c.judgeGaps()
	c.judgeConflicts()
	c.judgeData()
	c.judgeMoved()
	c.judgeRemoved()
	c.judgeTypes()
	c.judgeNewVariables()
	c.judgeArrays()
	for i := range c.Changes {
		c.judgeChange(&c.Changes[i])
	}
	c.judgeGrowth()
	c.judgeHeld()
	c.judgeStates()
	c.judgeFlags()
	c.judgeRoom()
	c.noteNoEffect()
}

// judgeConflicts names each object of which references disagree, once.
func (c *comparer) judgeConflicts() {
	said := make(map[module.Addr][]module.Addr)
	for _, p := range c.data.conflicts {
		said[p[0]] = append(said[p[0]], p[1])
	}
	for _, o := range slices.Sorted(maps.Keys(said)) {
		if n, ok := c.data.toNew[o]; ok {
			said[o] = append(said[o], n)
		}
		slices.Sort(said[o])
		var at []string
		for _, n := range slices.Compact(said[o]) {
			at = append(at, "at "+n.String())
		}
		if len(at) == 1 {
			at = append(at, "elsewhere")
		}
		c.refuse(ConflictingPairs, c.objectName(c.Old, o), "references disagree where the fixed build has what the baseline has at %v: %s", o, strings.Join(at, " or "))
	}
}

// judgeChurn tells a rebuild by another compiler, or with another profile,
// from a fix: most of the code differs, and a patch would be the whole program.
// Where many functions differ in nothing but the offsets of fields, it is an
// object's layout that makes them differ.
func (c *comparer) judgeChurn() bool {
	const share, least = 0.25, 60
	bodies, paired, shifted := 0, 0, 0
	for _, ch := range c.Changes {
		switch {
		case ch.Old == nil:
			bodies++
		case ch.Old.Hash != ch.New.Hash:
			bodies, paired = bodies+1, paired+1
			if c.onlyOffsets(ch.Old, ch.New) {
				shifted++
			}
		}
	}
	bodies = max(bodies, len(c.Removed))
	if bodies < least || float64(bodies) < share*float64(len(c.New.Funcs)) {
		return false
	}
	if c.Reasons = nil; shifted >= least/4 && float64(shifted) >= share*float64(paired) {
		c.refuse(DataLayout, c.New.Name, "%d of %d functions differ, %d of them in nothing but the offsets of fields", bodies, len(c.New.Funcs), shifted)
	} else {
		c.refuse(Churn, c.New.Name, "%d of %d functions differ or have no counterpart", bodies, len(c.New.Funcs))
	}
	return true
}

// onlyOffsets reports whether two bodies differ in nothing but the offsets of fields.
func (c *comparer) onlyOffsets(o, n *module.Func) bool {
	return slices.EqualFunc(c.body(c.Old, o), c.body(c.New, n), func(p, q module.Instr) bool {
		return p.Key == q.Key || p.Shape == q.Shape && isField(&p) && p.Disp != q.Disp
	})
}

func (c *comparer) objectName(m *module.Module, a module.Addr) string {
	for _, s := range m.Symbols {
		if s.Defined && s.Addr == a && s.Name != "" && s.Type == elf.STT_OBJECT {
			return s.Name
		}
	}
	if s := m.SectionAt(a); s != nil {
		return fmt.Sprintf("%s+%#x", s.Name, uint64(a-s.Start))
	}
	return a.String()
}

func (c *comparer) judgeExports() {
	news := make(map[string]module.Symbol)
	for _, s := range c.New.Symbols {
		if s.Dynamic && s.Defined {
			news[s.Name+"@"+s.Version] = s
		}
	}
	for _, s := range c.Old.Symbols {
		if r, _ := c.Old.RelocAt(s.Addr); !s.Dynamic || !s.Defined || s.Name == "" || r.Type == elf.R_X86_64_COPY {
			continue
		}
		n, ok := news[s.Name+"@"+s.Version]
		sec := c.Old.SectionAt(s.Addr)
		switch {
		case !ok:
			c.refuse(RemovedExport, s.Name, "other modules may use it and the fixed build does not have it")
		case s.Type != n.Type:
			c.refuse(RemovedExport, s.Name, "its type %s becomes %s", typeName(s.Type), typeName(n.Type))
		case s.Type == elf.STT_OBJECT && n.Size != s.Size && sec != nil && sec.Write:
			c.refuse(DataLayout, s.Name, "exported object of %d bytes has %d in the fixed build", s.Size, n.Size)
		case s.Type == elf.STT_OBJECT && sec != nil && !sec.Write && !versionOnly(c.Old.Text(s.Addr), c.New.Text(n.Addr)) &&
			!(bytes.Equal(numbersIn(c.Old, sized(&s)), numbersIn(c.New, sized(&n))) && c.samePointers(sized(&s), sized(&n))):
			c.refuse(ConstantData, s.Name, "exported, and its content differs")
		}
	}
}

// typeName names a symbol's type. debug/elf takes the first of the numbers that
// are left to operating systems for no more than that (STT_LOOS).
func typeName(t elf.SymType) string {
	if t == elf.STT_GNU_IFUNC {
		return "STT_GNU_IFUNC (chosen when the module is loaded)"
	}
	return t.String()
}

func sized(s *module.Symbol) module.Range {
	return module.Range{Start: s.Addr, End: s.Addr + module.Addr(s.Size)}
}

func (c *comparer) judgeTLS() {
	o, n := c.Old.TLS, c.New.TLS
	if o.Memsz != n.Memsz || o.Align != n.Align || o.Filesz != n.Filesz {
		c.refuse(TLSLayout, "PT_TLS", "%d bytes of thread-local storage become %d: threads that exist have no room for them", o.Memsz, n.Memsz)
		return
	}
	a := c.Old.Bytes(module.Range{Start: module.Addr(o.Vaddr), End: module.Addr(o.Vaddr + o.Filesz)})
	b := c.New.Bytes(module.Range{Start: module.Addr(n.Vaddr), End: module.Addr(n.Vaddr + n.Filesz)})
	if o.Filesz > 0 && !bytes.Equal(a, b) {
		c.refuse(TLSLayout, "PT_TLS", "initial values of thread-local variables differ")
	}
}

// judgeTLSSlots refuses when the same instruction uses another slot for a
// thread-local variable of the module: its offset changed.
func (c *comparer) judgeTLSSlots(o, n *module.Func) {
	c.alignedRefs(o, n, func(x, y *module.Ref) {
		kx, _, okX := SlotKey(c.Old, x.Target)
		ky, _, okY := SlotKey(c.New, y.Target)
		if okX && okY && kx != ky && strings.HasPrefix(kx, "tls ") && strings.HasPrefix(ky, "tls ") {
			c.refuse(TLSLayout, n.Name, "uses %s instead of %s", ky, kx)
		}
	})
}

// judgeGaps compares code that no FDE covers: it has to be the same.
func (c *comparer) judgeGaps() {
	if len(c.Old.Gaps) != len(c.New.Gaps) {
		c.refuse(OutsideFDE, c.New.Name, "%d stretches of code without unwind information become %d", len(c.Old.Gaps), len(c.New.Gaps))
		return
	}
	for i, o := range c.Old.Gaps {
		n := c.New.Gaps[i]
		if bytes.Equal(c.Old.Bytes(o.Ranges[0]), c.New.Bytes(n.Ranges[0])) {
			continue
		}
		if o.Hash != n.Hash || len(o.Refs) != len(n.Refs) {
			c.refuse(OutsideFDE, n.Name, "code without unwind information differs")
			continue
		}
		for k := range o.Refs {
			if why := c.differs(o.Refs[k].Target, n.Refs[k].Target, n.Refs[k].Kind, n.Refs[k].MemSize); why != "" {
				c.refuse(OutsideFDE, n.Name, "code without unwind information %s", why)
				break
			}
		}
	}
}

// judgeRemoved refuses when a function that live pointers may lead to has no
// counterpart: nothing says where they should lead.
func (c *comparer) judgeRemoved() {
	taken := make(map[module.Addr]string)
	for _, f := range c.Old.Funcs {
		for i := range f.Refs {
			if r := &f.Refs[i]; r.Kind == module.RefAddress {
				taken[r.Target] = "its address is taken by " + f.Name
			}
		}
	}
	for _, r := range c.Old.Relocs {
		if a, ok := r.Leads(); ok {
			taken[a] = "a pointer at " + r.Addr.String() + " leads to it"
		}
	}
	for _, f := range c.Removed {
		if f.Orphan {
			continue
		}
		if why := taken[f.Entry()]; why != "" {
			c.refuse(UnpairedFunction, f.Name, "not found in the fixed build, and %s", why)
			continue
		}
		for _, caller := range c.callers(f) {
			if n := c.toNew[caller]; n != nil && c.changed[n] == "" {
				c.refuse(UnpairedFunction, f.Name, "not found in the fixed build, and unchanged %s calls it", caller.Name)
				break
			}
		}
	}
}

func (c *comparer) callers(f *module.Func) []*module.Func {
	if c.calledBy == nil {
		c.calledBy = make(map[module.Addr][]*module.Func)
		for _, g := range c.Old.Funcs {
			for i := range g.Refs {
				if k := g.Refs[i].Kind; k == module.RefCall || k == module.RefJump {
					to := destination(c.Old, g.Refs[i].Target)
					c.calledBy[to] = append(c.calledBy[to], g)
				}
			}
		}
	}
	return c.calledBy[f.Entry()]
}

// judgeChange looks at one changed function.
func (c *comparer) judgeChange(ch *Change) {
	n, o := ch.New, ch.Old
	switch {
	case n.Opaque || o != nil && o.Opaque:
		c.refuse(Undecodable, n.Name, "its bytes are not all instructions")
		return
	case n.Orphan || o != nil && o.Orphan:
		c.refuse(Undecodable, n.Name, "a part of a function that nothing leads to")
		return
	case n.IndirectJump && len(n.Tables) == 0:
		c.refuse(IndirectJump, n.Name, "a computed jump whose table was not found")
	}
	c.judgeTables(n)
	c.judgeLabels(n, c.New)
	if o == nil {
		return
	}
	c.judgeLabels(o, c.Old)
	for _, e := range o.Entries {
		at, _, err := Entry(c.Old, o, e)
		if err != nil {
			c.refuse(NoEntryRoom, n.Name, "%v", err)
			continue
		}
		c.judgeEntry(o, at)
	}
	c.judgeLayout(o, n)
	c.judgeOrder(o, n)
	c.judgeSwaps(o, n)
	c.judgeUses(o, n)
	c.judgePlaces(o, n)
	c.judgeWidths(o, n)
	c.judgeVariables(o, n)
	c.judgeStrides(o, n)
	c.judgeSignature(o, n)
	c.judgeParameters(o, n)
	c.judgeSizes(n)
	c.judgeNumbers(o, n)
	c.noteStates(o, n)
	c.judgeCases(o, n)
	c.judgeLocks(ch)
	c.judgeTLSSlots(o, n)
	c.judgeOnce(o, n)
	c.judgeThreadStart(o, n)
	if c.onlyAtStart(o) {
		c.refuse(Constructor, n.Name, "runs once, when the module is loaded or before its first use, and may have run already")
	}
}
