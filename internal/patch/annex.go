package patch

import (
	"debug/elf"
	"encoding/binary"
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
)

// annex is what the overlay has behind the code: stubs (executable), constants,
// slots and unwind tables (read-only), and new variables (writable).
type annex struct {
	base  [3]module.Addr // by Prot; of ReadExec behind the code
	bytes [3][]byte
	links []link
}

// annexAt is a place in the annex, or with inCode an overlay address.
type annexAt struct {
	prot Prot
	off  uint64
}

const inCode = ReadWrite + 1

// link is a 64-bit field of the annex that holds an address.
type link struct {
	at     annexAt
	to     target
	imp    int // index of the import, -1 when to says where
	addend int64
}

func (a *annex) address(p annexAt) module.Addr {
	if p.prot == inCode {
		return module.Addr(p.off)
	}
	return a.base[p.prot] + module.Addr(p.off)
}

// reserve makes room for n bytes at a multiple of align, at most 64.
func (a *annex) reserve(p Prot, n, align uint64, fill byte) annexAt {
	b := a.bytes[p]
	for uint64(len(b))%align != 0 {
		b = append(b, fill)
	}
	at := annexAt{p, uint64(len(b))}
	for range n {
		b = append(b, fill)
	}
	a.bytes[p] = b
	return at
}

// reserveLike makes room for a range, aligned modulo align as the range is.
func (a *annex) reserveLike(p Prot, r module.Range, align uint64) annexAt {
	at := a.reserve(p, uint64(r.Start)%align, align, 0)
	at.off += uint64(r.Start) % align
	a.reserve(p, r.Len(), 1, 0)
	return at
}

// newSlot makes a slot that the baseline does not have.
func (b *builder) newSlot(name, key string, at module.Addr) target {
	if s, ok := b.slots[key]; ok && key != elf.R_X86_64_RELATIVE.String() {
		return target{where: inAnnex, annex: s}
	}
	r, _ := b.New.RelocAt(at)
	slot := b.annex.reserve(ReadOnly, 8, 8, 0)
	b.slots[key] = slot
	b.fill(slot, r, name)
	return target{where: inAnnex, annex: slot}
}

// fill has the 64-bit field at at filled with what the relocation says.
func (b *builder) fill(at annexAt, r module.Reloc, name string) {
	l := link{at: at, imp: -1}
	local, isLocal := r.Leads()
	switch r.Type {
	case elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT, elf.R_X86_64_64, elf.R_X86_64_RELATIVE:
	default:
		b.refuse(diff.UnresolvedImport, name, "needs a new %v of %s, which only the loader can give", r.Type, r.Sym)
		return
	}
	switch {
	case isLocal:
		l.to = b.resolveAddress(name, local)
		if l.to.where == nowhere {
			return
		}
		b.out.Escapes = b.out.Escapes || l.to.where == inOverlay
	case r.Sym == "":
		b.refuse(diff.UnresolvedImport, name, "needs an address outside the module")
		return
	default:
		l.imp, l.addend = b.importOf(r), r.Addend
	}
	b.annex.links = append(b.annex.links, l)
}

// resolveAddress resolves a pointer to something of the module.
func (b *builder) resolveAddress(name string, t module.Addr) target {
	s := b.New.SectionAt(t)
	none := &module.Func{Ranges: []module.Range{{}}, Name: name}
	switch {
	case s == nil:
		return b.beyond(none, t)
	case s.Exec:
		return b.resolveCode(none, t, true)
	case s.Write:
		return b.resolveData(name, t)
	}
	return b.resolveConst(name, t, 0)
}

func (b *builder) importOf(r module.Reloc) int {
	imp := Import{Name: r.Sym, Version: r.Version, Func: r.Type == elf.R_X86_64_JMP_SLOT}
	for i := range b.out.Imports {
		if b.out.Imports[i].Name == imp.Name && b.out.Imports[i].Version == imp.Version {
			return i
		}
	}
	b.out.Imports = append(b.out.Imports, imp)
	return len(b.out.Imports) - 1
}

// newStub makes a linkage stub for an import that the baseline does not call:
// endbr64; jmp *slot(%rip).
func (b *builder) newStub(f *module.Func, key string, slotAt module.Addr) target {
	if s, ok := b.stubs[key]; ok {
		return target{where: inAnnex, annex: s}
	}
	slot := b.newSlot(f.Name, key, slotAt)
	const size = 16
	at := b.annex.reserve(ReadExec, size, size, 0xcc)
	copy(b.annex.bytes[ReadExec][at.off:], []byte{0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0, 0, 0, 0})
	b.stubs[key] = at
	b.puts = append(b.puts, put{at: annexAt{ReadExec, at.off + 6}, end: annexAt{ReadExec, at.off + 10}, to: slot})
	return target{where: inAnnex, annex: at}
}

// newVariables gives a stretch of new variables, or of constants that the loader
// relocates, its place, with their initial values.
func (b *builder) newVariables(r module.Range) annexAt {
	if at, ok := b.fresh[r.Start]; ok {
		return at
	}
	const align = 64 // the largest that compilers give to a variable unasked
	s := b.New.SectionAt(r.Start)
	prot := ReadWrite
	if s.Relro {
		prot = ReadOnly
	}
	at := b.annex.reserveLike(prot, r, align)
	b.fresh[r.Start] = at
	b.out.DataEscapes = true
	b.out.Variables = append(b.out.Variables, Variable{Fixed: r}) // placed in layAnnex
	if !s.NoBits {
		copy(b.annex.bytes[prot][at.off:], b.New.Bytes(r))
	}
	for _, rel := range b.New.RelocsIn(r) {
		b.fill(annexAt{prot, at.off + uint64(rel.Addr-r.Start)}, rel, "new variable at "+rel.Addr.String())
	}
	return at
}

// frame takes over the unwind information of one range of an included function.
func (b *builder) frame(f *module.Func, fde *cfi.FDE) {
	moved := *fde
	moved.Start = uint64(b.at(module.Addr(fde.Start)))
	moved.End = moved.Start + (fde.End - fde.Start)
	fr := cfi.Frame{FDE: &moved}
	if p := fde.CIE.Personality; p.Enc != 0xff && p.Value != 0 {
		t := b.pointerSlot(f.Name, p)
		if t.where != inBaseline {
			b.refuse(diff.UnresolvedImport, f.Name, "its personality routine has no slot in the baseline")
			return
		}
		fr.Personality = uint64(t.addr)
	}
	i := len(b.frames)
	b.frames = append(b.frames, fr)
	s := b.New.SectionAt(module.Addr(fde.LSDA.Value))
	if fde.LSDA.Enc == 0xff || fde.LSDA.Value == 0 || s == nil {
		return
	}
	l, err := cfi.ParseLSDA(b.New.Bytes(s.Range), uint64(s.Start), fde.LSDA.Value, fde.Start)
	if err != nil {
		b.refuse(diff.Undecodable, f.Name, "exception table: %v", err)
		return
	}
	b.exceptions(f, fde, s, &l)
	b.frames[i].LSDA = uint64(l.Start) // becomes an overlay address in layAnnex
}

// exceptions copies an exception table. Its landing pads count from the start
// of the range, so they have to lie in it.
func (b *builder) exceptions(f *module.Func, fde *cfi.FDE, s *module.Section, l *cfi.LSDA) {
	for _, c := range l.Sites {
		if c.Pad != 0 && (c.Pad < fde.Start || c.Pad >= fde.End) || l.LPStart.Enc != 0xff {
			b.refuse(diff.Undecodable, f.Name, "exception table: a landing pad lies in another part of the function")
			return
		}
	}
	r := module.Range{Start: module.Addr(l.Start), End: module.Addr(l.End)}
	if _, ok := b.copies[r]; ok {
		return
	}
	const align = 4 // of the type table
	at := b.annex.reserveLike(ReadOnly, r, align)
	b.copies[r] = at
	copy(b.annex.bytes[ReadOnly][at.off:], b.New.Bytes(r))
	for _, t := range l.Types {
		if t.Value == 0 {
			continue
		}
		const pcrel, udata4, sdata4 = 0x10, 0x03, 0x0b
		field := annexAt{ReadOnly, at.off + uint64(s.Start) + uint64(t.Off) - l.Start}
		switch {
		case t.Enc&0x7f == pcrel|sdata4:
		case t.Enc == udata4 && b.New.Fixed():
			b.puts = append(b.puts, put{at: field, to: b.pointerSlot(f.Name, t), absolute: 4})
			continue
		default:
			b.refuse(diff.Undecodable, f.Name, "exception types are encoded as %#x", t.Enc)
			return
		}
		b.puts = append(b.puts, put{at: field, end: field, to: b.pointerSlot(f.Name, t)})
	}
}

// pointerSlot resolves what a pointer of the unwind tables leads to: often a
// writable slot that the loader fills (DW.ref.*).
func (b *builder) pointerSlot(name string, p cfi.Pointer) target {
	at := module.Addr(p.Value)
	r, ok := b.New.RelocAt(at)
	if !p.Indirect || !ok {
		return b.resolveAddress(name, at)
	}
	if o, ok := b.OldData(at); ok {
		return target{where: inBaseline, addr: o}
	}
	for _, o := range b.Old.Relocs {
		if o.Sym != "" && o.Sym == r.Sym && o.Version == r.Version && o.Type == r.Type && o.Addend == r.Addend {
			return target{where: inBaseline, addr: o.Addr}
		}
	}
	slot := b.annex.reserve(ReadOnly, 8, 8, 0)
	b.fill(slot, r, name)
	return target{where: inAnnex, annex: slot}
}

// layAnnex gives every part of the annex its address, builds the unwind tables
// and makes the pieces.
func (b *builder) layAnnex() {
	a := &b.annex
	a.base[ReadOnly] = pageUp(a.base[ReadExec] + module.Addr(len(a.bytes[ReadExec])))
	tables := a.reserve(ReadOnly, 0, 8, 0)
	for i := range b.frames {
		if f := &b.frames[i]; f.LSDA != 0 {
			for r, at := range b.copies {
				if uint64(r.Start) == f.LSDA {
					f.LSDA = uint64(a.address(at))
					break
				}
			}
		}
	}
	u, err := cfi.Build(uint64(a.address(tables)), b.frames)
	if err != nil {
		b.refuse(diff.Undecodable, b.New.Name, "unwind tables: %v", err)
		return
	}
	a.bytes[ReadOnly] = append(a.bytes[ReadOnly], u.Bytes...)
	b.out.EHFrameHdr = module.Addr(u.Hdr)
	for _, p := range u.Personalities {
		b.out.Fixups = append(b.out.Fixups, Fixup{At: module.Addr(p.At), Kind: RelBaseline, Target: module.Addr(p.Target)})
	}
	b.out.HeaderLen = uint64(headerLen + importLen*len(b.out.Imports) + heldLen*(b.held()+len(a.links)))
	a.bytes[ReadOnly] = fill(fill(a.bytes[ReadOnly], len(a.bytes[ReadOnly])+int(b.out.HeaderLen), 0), -1, 0)
	a.base[ReadWrite] = a.base[ReadOnly] + module.Addr(len(a.bytes[ReadOnly]))
	b.out.Header = a.base[ReadWrite] - module.Addr(b.out.HeaderLen)
	for i := range b.out.Variables {
		v := &b.out.Variables[i]
		v.At = a.address(b.fresh[v.Fixed.Start])
	}
	code := slices.Concat(fill(nil, int(a.base[ReadExec]-PageSize), 0xcc), a.bytes[ReadExec])
	for _, p := range []Piece{
		{Addr: PageSize, Prot: ReadExec, Bytes: fill(code, -1, 0xcc)},
		{Addr: a.base[ReadOnly], Prot: ReadOnly, Bytes: a.bytes[ReadOnly]},
		{Addr: a.base[ReadWrite], Prot: ReadWrite, Bytes: fill(a.bytes[ReadWrite], -1, 0)},
	} {
		if len(p.Bytes) > 0 {
			b.out.Pieces = append(b.out.Pieces, p)
		}
	}
	b.fillLinks()
}

// Room for what an installer says of a patch, in bytes: of itself, of each
// import, and of each thing that an earlier patch may have brought.
const headerLen, importLen, heldLen = 1024, 24, 64

// held is the number of fields that lead to something whose address a program may hold.
func (b *builder) held() int {
	n := 0
	for _, p := range b.puts {
		if p.to.held || p.absolute != 0 {
			n++
		}
	}
	return n
}

// fill extends b to n bytes; -1: to whole pages.
func fill(b []byte, n int, with byte) []byte {
	if n < 0 {
		n = int(pageUp(module.Addr(len(b))))
	}
	for len(b) < n {
		b = append(b, with)
	}
	return b
}

// fillLinks writes the 64-bit fields and lists their fixups.
func (b *builder) fillLinks() {
	for _, l := range b.annex.links {
		f := Fixup{At: b.annex.address(l.at), Kind: AbsImport, Import: l.imp}
		value := uint64(l.addend)
		if l.imp < 0 {
			f.Kind, f.Import, f.Target = AbsOverlay, 0, b.address(l.to)
			if l.to.where == inBaseline {
				f.Kind = AbsBaseline
			}
			value = uint64(f.Target)
		}
		binary.LittleEndian.PutUint64(b.out.field(f.At, 8), value)
		b.out.Fixups = append(b.out.Fixups, f)
	}
}

func pageUp(a module.Addr) module.Addr { return (a + PageSize - 1) &^ (PageSize - 1) }
