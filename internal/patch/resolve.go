package patch

import (
	"debug/elf"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// resolve finds where a reference of included code has to lead. An address
// that leaves a function is the baseline's wherever the baseline has the same
// thing, since programs store and compare pointers.
func (b *builder) resolve(f *module.Func, r *module.Ref) target {
	t := r.Target
	if f.Contains(t) && (r.Kind != module.RefAddress || t != f.Entry()) {
		return target{where: inOverlay, addr: t}
	}
	for _, table := range f.Tables {
		if table.Addr == t {
			return target{where: inAnnex, annex: b.tables[t]}
		}
	}
	for _, table := range b.LabelTables(f) {
		if table.Start == t {
			return target{where: inAnnex, annex: b.tables[t]}
		}
	}
	s := b.New.SectionAt(t)
	switch {
	case s == nil:
		return b.beyond(f, t)
	case s.Exec:
		return b.resolveCode(f, t, r.Kind == module.RefAddress)
	}
	if k, local, ok := diff.SlotKey(b.New, t); ok {
		return b.resolveSlot(f, k, t, local)
	}
	if s.Write {
		return b.resolveData(f.Name, t)
	}
	return b.resolveConst(f.Name, t, r.MemSize)
}

// beyond resolves an address outside all sections: the end of one.
func (b *builder) beyond(f *module.Func, t module.Addr) target {
	for i := range b.New.Sections {
		s := &b.New.Sections[i]
		if old := b.Old.Section(s.Name); s.End == t && old != nil && s.Write {
			return target{where: inBaseline, addr: old.End}
		}
	}
	return b.refuse(diff.UnpairedData, f.Name, "refers to %v, outside any section", t)
}

// resolveCode resolves a branch to code, or its address.
func (b *builder) resolveCode(f *module.Func, t module.Addr, address bool) target {
	if slot, ok := b.New.Stub(t); ok {
		k, local, _ := diff.SlotKey(b.New, slot)
		if local != 0 {
			return b.resolveIndirect(f, local)
		}
		if old, ok := b.oldStubs[k]; ok {
			if address && !b.Old.Canonical(old) {
				return b.refuse(diff.UnresolvedImport, f.Name, "takes the address of %s, which in the baseline other modules know by another", k)
			}
			return target{where: inBaseline, addr: old}
		}
		if address {
			return b.refuse(diff.UnresolvedImport, f.Name, "takes the address of %s, which the baseline does not import", k)
		}
		return b.newStub(f, k, slot)
	}
	g := b.New.FuncAt(t)
	if g == nil || g.Gap {
		return b.resolveGap(f, g, t)
	}
	old := b.OldOf(g)
	entry := -1
	for i, e := range g.Entries {
		if e == t {
			entry = i
		}
	}
	switch {
	case b.included[g] && (!address || old == nil || entry < 0):
		b.out.Escapes = b.out.Escapes || address
		return target{where: inOverlay, addr: t, held: address}
	case old != nil && entry >= 0 && len(old.Entries) == len(g.Entries):
		return target{where: inBaseline, addr: old.Entries[entry]}
	case old != nil && old.Hash == g.Hash:
		p := g.PlaceOf(t)
		if p.Part < len(old.Ranges) && old.Ranges[p.Part].Len() == g.Ranges[p.Part].Len() {
			return target{where: inBaseline, addr: old.Ranges[p.Part].Start + module.Addr(p.Off)}
		}
	}
	return b.refuse(diff.UnpairedFunction, f.Name, "leads to %v in %s, whose place in the baseline is not known", t, g.Name)
}

// resolveGap resolves a reference to code without unwind information, which is
// the same in both builds.
func (b *builder) resolveGap(f *module.Func, g *module.Func, t module.Addr) target {
	for i, n := range b.New.Gaps {
		if o := b.Old.Gaps[i]; n == g && o.Ranges[0].Len() == n.Ranges[0].Len() {
			return target{where: inBaseline, addr: o.Entry() + (t - n.Entry())}
		}
	}
	return b.refuse(diff.OutsideFDE, f.Name, "leads to %v, code without unwind information", t)
}

// resolveIndirect resolves a stub or slot that the loader fills from a
// resolver of the module's own (R_X86_64_IRELATIVE).
func (b *builder) resolveIndirect(f *module.Func, resolver module.Addr) target {
	want := b.OldOf(b.New.FuncAt(resolver))
	for stub, slot := range b.Old.Stubs() {
		k, local, ok := diff.SlotKey(b.Old, slot)
		if ok && k == elf.R_X86_64_IRELATIVE.String() && want != nil && b.Old.FuncAt(local) == want {
			return target{where: inBaseline, addr: stub}
		}
	}
	return b.refuse(diff.UnresolvedImport, f.Name, "calls through an indirect function that the baseline did not use")
}

// lazy reports whether the baseline's slot may hold the address of a linkage
// stub yet, where the fixed build's holds that of the function: then a pointer
// from the one is not equal to a pointer from the other.
func (b *builder) lazy(old, at module.Addr) bool {
	o, _ := b.Old.RelocAt(old)
	n, _ := b.New.RelocAt(at)
	return o.Type == elf.R_X86_64_JMP_SLOT && n.Type != elf.R_X86_64_JMP_SLOT
}

// resolveSlot resolves the use of a slot that the loader fills.
func (b *builder) resolveSlot(f *module.Func, key string, at, local module.Addr) target {
	if local == 0 {
		if old, ok := b.oldSlots[key]; ok && !b.lazy(old, at) {
			return target{where: inBaseline, addr: old}
		}
		return b.newSlot(f.Name, key, at)
	}
	// A pointer to something of the module: the baseline's slot for the same thing.
	for _, r := range b.Old.Relocs {
		k, l, ok := diff.SlotKey(b.Old, r.Addr)
		if ok && k == key && b.samePlace(l, local) {
			return target{where: inBaseline, addr: r.Addr}
		}
	}
	if key != elf.R_X86_64_RELATIVE.String() {
		return b.refuse(diff.UnresolvedImport, f.Name, "needs the slot of an indirect function that the baseline did not use")
	}
	return b.newSlot(f.Name, key, at)
}

// samePlace reports whether an address of the baseline is the counterpart of one of the fixed build.
func (b *builder) samePlace(old, fixed module.Addr) bool {
	s := b.New.SectionAt(fixed)
	switch {
	case s == nil:
		return false
	case s.Exec:
		f, g := b.Old.FuncAt(old), b.New.FuncAt(fixed)
		return f != nil && g != nil && b.OldOf(g) == f && old == f.Entry() && fixed == g.Entry()
	case s.Write:
		o, ok := b.OldData(fixed)
		return ok && o == old
	}
	o, ok := b.OldConstant(fixed)
	return ok && o == old
}

// resolveData resolves a reference to writable data: the baseline's, or a new
// variable in the annex.
func (b *builder) resolveData(name string, t module.Addr) target {
	if o, ok := b.OldData(t); ok {
		return target{where: inBaseline, addr: o}
	}
	if r, ok := b.Fresh(t); ok {
		at := b.newVariables(r)
		at.off += uint64(t - r.Start)
		return target{where: inAnnex, annex: at, held: true}
	}
	if sym, ok := b.Copied(t); ok {
		return b.refuse(diff.UnresolvedImport, sym, "%s refers to it as to the module's own, and the loader moved none into the baseline", name)
	}
	return b.refuse(diff.UnpairedData, name, "refers to an object at %v whose place in the baseline is not known", t)
}

// resolveConst resolves a reference to read-only data: the baseline's where
// the content is the same, else a copy that comes along.
func (b *builder) resolveConst(name string, t module.Addr, size uint8) target {
	if o, ok := b.OldConstant(t); ok {
		return target{where: inBaseline, addr: o}
	}
	if size > 0 {
		align := uint64(1)
		for align < uint64(size) && align < 64 {
			align *= 2
		}
		return target{where: inAnnex, annex: b.constCopy(name, t, uint64(size), align)}
	}
	b.out.DataEscapes = true
	if b.New.OnlyText(t) {
		n := uint64(b.New.NextAnchor(t+module.Addr(len(b.New.Text(t)))) - t)
		if o, ok := b.baselineText()[string(b.New.Bytes(module.Range{Start: t, End: t + module.Addr(n)}))]; ok {
			return target{where: inBaseline, addr: o}
		}
		align := min(32, uint64(t&-t))
		return target{where: inAnnex, annex: b.constCopy(name, t, n, max(align, 1))}
	}
	r := module.Range{Start: t, End: b.New.ObjectEnd(t)}
	if len(diff.Offsets(b.New, r)) > 1 {
		return b.refuse(diff.ConstantData, name, "the table at %v seems to hold offsets to texts or functions", t)
	}
	b.addBlob(name, r)
	return target{where: inBlob, addr: t}
}

// constCopy puts a copy of n bytes of read-only data into the annex.
func (b *builder) constCopy(name string, t module.Addr, n, align uint64) annexAt {
	r := module.Range{Start: t, End: t + module.Addr(n)}
	at, ok := b.copies[r]
	if !ok {
		at = b.annex.reserve(ReadOnly, n, align, 0)
		copy(b.annex.bytes[ReadOnly][at.off:], b.New.Bytes(r))
		b.copies[r] = at
		for _, rel := range b.New.RelocsIn(r) {
			if rel.Addr+rel.Size() > r.End {
				b.refuse(diff.ConstantData, name, "reads a part of the pointer at %v", rel.Addr)
				break
			}
			b.fill(annexAt{ReadOnly, at.off + uint64(rel.Addr-r.Start)}, rel, name)
		}
	}
	return at
}

// baselineText finds the texts that code of the baseline refers to, with the
// zeros behind them and nothing else.
func (b *builder) baselineText() map[string]module.Addr {
	if b.oldText != nil {
		return b.oldText
	}
	b.oldText = make(map[string]module.Addr)
	for i := range b.Old.Sections {
		s := &b.Old.Sections[i]
		if s.Write || s.Exec {
			continue
		}
		for _, a := range b.Old.AnchorsIn(s.Range) {
			if !b.Old.OnlyText(a) {
				continue
			}
			text := b.Old.Bytes(module.Range{Start: a, End: b.Old.NextAnchor(a + module.Addr(len(b.Old.Text(a))))})
			for n := len(b.Old.Text(a)) + 1; n <= len(text); n++ {
				if _, dup := b.oldText[string(text[:n])]; !dup {
					b.oldText[string(text[:n])] = a
				}
			}
		}
	}
	return b.oldText
}
