package diff

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// judge looks for everything that makes the difference unsafe in a living process.
func (c *comparer) judge() {
	if c.Old.Type != elf.ET_DYN || c.New.Type != elf.ET_DYN {
		c.refuse(NotPositionIndependent, c.New.Name, "linked at a fixed address: references to data cannot be told from numbers")
	}
	if len(c.Changes) == 0 && len(c.Reasons) == 0 {
		// Data may still differ, but no code that runs does.
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
	for _, p := range c.data.conflicts {
		c.refuse(ConflictingPairs, c.objectName(c.Old, p[0]), "references disagree whether %v is %v in the fixed build", p[0], p[1])
	}
	c.judgeData()
	c.judgeRemoved()
	for i := range c.Changes {
		c.judgeChange(&c.Changes[i])
	}
}

// judgeChurn tells a rebuild by another compiler, or with another profile,
// from a fix: most of the code differs, and a patch would be the whole program.
func (c *comparer) judgeChurn() bool {
	const share, least = 0.25, 60
	bodies := 0
	for _, ch := range c.Changes {
		if ch.Old == nil || ch.Old.Hash != ch.New.Hash {
			bodies++
		}
	}
	if bodies < least || float64(bodies) < share*float64(len(c.New.Funcs)) {
		return false
	}
	c.Reasons = []Reason{{Churn, c.New.Name, fmt.Sprintf("%d of %d functions differ", bodies, len(c.New.Funcs))}}
	return true
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
	type sym struct {
		kind elf.SymType
		size uint64
	}
	news := make(map[string]sym)
	for _, s := range c.New.Symbols {
		if s.Dynamic && s.Defined {
			news[s.Name+"@"+s.Version] = sym{s.Type, s.Size}
		}
	}
	for _, s := range c.Old.Symbols {
		if !s.Dynamic || !s.Defined || s.Name == "" {
			continue
		}
		n, ok := news[s.Name+"@"+s.Version]
		sec := c.Old.SectionAt(s.Addr)
		switch {
		case !ok:
			c.refuse(RemovedExport, s.Name, "other modules may use it and the fixed build does not have it")
		case s.Type == elf.STT_OBJECT && n.size != s.Size && sec != nil && sec.Write:
			c.refuse(DataLayout, s.Name, "exported object of %d bytes has %d in the fixed build", s.Size, n.size)
		}
	}
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
					c.calledBy[g.Refs[i].Target] = append(c.calledBy[g.Refs[i].Target], g)
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
	for i := range n.Refs {
		if r := &n.Refs[i]; r.FieldLen == 1 {
			c.refuse(ShortBranch, n.Name, "an 8-bit branch at %v leaves the function", r.At)
		}
	}
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
	for _, r := range c.initSlots() {
		if r == o.Entry() {
			c.refuse(Constructor, n.Name, "runs when the module is loaded, and has run already")
		}
	}
}

// initSlots are the functions that the loader calls: DT_INIT and .init_array.
func (c *comparer) initSlots() []module.Addr {
	out := append([]module.Addr(nil), c.Old.Init...)
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

// judgeLabels refuses tables of labels (computed goto): pointers to the inside of a function.
func (c *comparer) judgeLabels(f *module.Func, m *module.Module) {
	if c.labels == nil {
		c.labels = make(map[*module.Func]module.Addr)
		for _, m := range []*module.Module{c.Old, c.New} {
			for _, r := range m.Relocs {
				a, ok := r.Leads()
				if !ok {
					continue
				}
				if g := m.FuncAt(a); g != nil && a != g.Entry() {
					c.labels[g] = r.Addr
				}
			}
		}
	}
	if at, ok := c.labels[f]; ok {
		c.refuse(Labels, f.Name, "pointers at %v lead to the inside of the function (computed goto)", at)
	}
}

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

// judgeEntry refuses when a branch leads into the bytes that the jump at at overwrites.
func (c *comparer) judgeEntry(f *module.Func, at module.Addr) {
	inside := func(t module.Addr) bool { return t > at && t < at+JumpLen }
	for _, in := range c.body(c.Old, f) {
		if in.Relative() && !in.RIP && inside(module.Addr(in.Target(uint64(in.At)))) {
			c.refuse(JumpIntoEntry, f.Name, "a branch at %v leads into its first bytes", in.At)
			return
		}
	}
	for _, t := range f.Tables {
		body := c.body(c.Old, f)
		for _, i := range t.Targets {
			if int(i) < len(body) && inside(body[i].At) {
				c.refuse(JumpIntoEntry, f.Name, "the jump table at %v leads into its first bytes", t.Addr)
				return
			}
		}
	}
}

// judgeData compares the contents and the layout of writable sections.
func (c *comparer) judgeData() {
	for i := range c.data.segments {
		s := &c.data.segments[i]
		sec := c.New.SectionAt(s.new.Start)
		if sec == nil || isGOT(sec) || sec.Name == ".dynamic" {
			continue
		}
		fresh := c.fresh(s)
		if s.old.Len() != s.new.Len() && !c.explained(s, fresh) {
			c.refuse(DataLayout, c.objectName(c.Old, s.old.Start), "%d bytes up to the next known object become %d", s.old.Len(), s.new.Len())
			continue
		}
		if !sec.NoBits {
			c.judgeContent(s, sec, fresh)
		}
	}
}

// judgeContent compares what the loader put into a segment.
func (c *comparer) judgeContent(s *segment, sec *module.Section, fresh []module.Addr) {
	n := min(s.old.Len(), s.new.Len())
	if len(fresh) > 0 && s.old.Len() != s.new.Len() {
		n = min(n, uint64(fresh[0]-s.new.Start))
	}
	code := InitialValue
	switch {
	case sec.Name == ".init_array" || sec.Name == ".fini_array":
		code = Constructor
	case sec.Relro:
		code = ConstantData
	}
	a := bytes.Clone(c.Old.Bytes(module.Range{Start: s.old.Start, End: s.old.Start + module.Addr(n)}))
	b := bytes.Clone(c.New.Bytes(module.Range{Start: s.new.Start, End: s.new.Start + module.Addr(n)}))
	olds, news := c.Old.RelocsIn(s.old), c.New.RelocsIn(s.new)
	at := func(m []module.Reloc, base module.Addr, k int) uint64 {
		if k < len(m) {
			return uint64(m[k].Addr - base)
		}
		return ^uint64(0)
	}
	for i, j := 0, 0; ; {
		x, y := at(olds, s.old.Start, i), at(news, s.new.Start, j)
		if n < 8 || min(x, y) > n-8 {
			break
		}
		if x != y {
			c.refuse(code, c.objectName(c.Old, s.old.Start+module.Addr(min(x, y))), "a pointer became a number, or a number a pointer")
			return
		}
		binary.LittleEndian.PutUint64(a[x:], 0)
		binary.LittleEndian.PutUint64(b[x:], 0)
		if why := c.slotDiffers(olds[i], news[j]); why != "" {
			c.refuse(code, c.objectName(c.Old, olds[i].Addr), "%s", why)
		}
		i, j = i+1, j+1
	}
	for k := range a {
		if a[k] != b[k] {
			o, w := s.old.Start+module.Addr(k), s.new.Start+module.Addr(k)
			if c.versionAt(o, w) {
				continue
			}
			c.refuse(code, c.objectName(c.Old, o), "initial byte %#02x becomes %#02x", a[k], b[k])
			return
		}
	}
}

func (c *comparer) slotDiffers(o, n module.Reloc) string {
	if o.Type != n.Type || o.Sym != n.Sym || o.Version != n.Version || o.Sym != "" && o.Addend != n.Addend {
		return fmt.Sprintf("pointer to %s%+d becomes %s%+d", o.Sym, o.Addend, n.Sym, n.Addend)
	}
	to, okO := o.Leads()
	tn, okN := n.Leads()
	if o.Sym != "" || !okO || !okN {
		return ""
	}
	if why := c.differs(to, tn, module.RefAddress, 0); why != "" {
		return "pointer " + why
	}
	return ""
}

// versionAt reports whether the byte belongs to a text that differs in its version only.
func (c *comparer) versionAt(o, n module.Addr) bool {
	start := func(m *module.Module, a module.Addr) module.Addr {
		s := m.SectionAt(a)
		if l := m.AnchorsIn(module.Range{Start: s.Start, End: a + 1}); len(l) > 0 {
			return l[len(l)-1]
		}
		return s.Start
	}
	return c.constant(start(c.Old, o), start(c.New, n), module.RefAddress, 0) == version
}
