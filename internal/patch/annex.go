package patch

import (
	"debug/elf"
	"encoding/binary"
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
)

// annex is what the overlay has beyond the fixed build's own pages, behind its
// image: unwind tables and slots (read-only), stubs (executable), and new
// variables (writable).
type annex struct {
	base  [3]module.Addr // by Prot
	bytes [3][]byte
	links []link
	// relative are 32-bit fields that lead from the annex into itself.
	relative []annexPut
}

type annexPut struct {
	at, end annexAt
	to      target
}

// annexAt is a place in the annex.
type annexAt struct {
	prot Prot
	off  uint64
}

// link is a 64-bit field of the annex that holds an address.
type link struct {
	at  annexAt
	to  target
	imp int // index of the import, -1 when to says where
}

func (a *annex) address(p annexAt) module.Addr { return a.base[p.prot] + module.Addr(p.off) }

// reserve makes room for n bytes at a multiple of align.
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

// fill has the field at at filled with what the relocation says.
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
		if l.to.where == inOverlay {
			s := b.New.SectionAt(l.to.addr)
			b.out.Escapes = b.out.Escapes || s != nil && s.Exec
		}
	case r.Addend != 0 || r.Sym == "":
		b.refuse(diff.UnresolvedImport, name, "needs the address of %s%+d, outside the module", r.Sym, r.Addend)
		return
	default:
		l.imp = b.importOf(r)
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
	return b.resolveConst(t, 0)
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
	b.annex.relative = append(b.annex.relative, annexPut{annexAt{ReadExec, at.off + 6}, annexAt{ReadExec, at.off + 10}, slot})
	return target{where: inAnnex, annex: at}
}

// newVariables gives a stretch of new variables its place, with their initial values.
func (b *builder) newVariables(r module.Range) annexAt {
	if at, ok := b.fresh[r.Start]; ok {
		return at
	}
	const align = 64 // the largest that compilers give to a variable unasked
	s := b.New.SectionAt(r.Start)
	at := b.annex.reserve(ReadWrite, uint64(r.Start)%align, align, 0)
	at.off += uint64(r.Start) % align
	b.annex.reserve(ReadWrite, r.Len(), 1, 0)
	b.fresh[r.Start] = at
	if s.NoBits {
		return at
	}
	copy(b.annex.bytes[ReadWrite][at.off:], b.New.Bytes(r))
	for _, rel := range b.New.RelocsIn(r) {
		b.fill(annexAt{ReadWrite, at.off + uint64(rel.Addr-r.Start)}, rel, "new variable at "+rel.Addr.String())
	}
	return at
}

// frame takes over the unwind information of one range of an included function.
func (b *builder) frame(f *module.Func, fde *cfi.FDE) {
	fr := cfi.Frame{FDE: fde}
	if p := fde.CIE.Personality; p.Enc != 0xff && p.Value != 0 {
		t := b.pointerSlot(f.Name, p)
		switch t.where {
		case inBaseline:
			fr.Personality = uint64(t.addr)
		default:
			b.refuse(diff.UnresolvedImport, f.Name, "its personality routine has no slot in the baseline")
			return
		}
	}
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
	b.consts = append(b.consts, module.Range{Start: module.Addr(l.Start), End: module.Addr(l.End)})
	for _, t := range l.Types {
		if t.Value == 0 {
			continue
		}
		const pcrel, sdata4 = 0x10, 0x0b
		if t.Enc&0x7f != pcrel|sdata4 {
			b.refuse(diff.Undecodable, f.Name, "exception types are encoded as %#x", t.Enc)
			return
		}
		at := s.Start + module.Addr(t.Off)
		b.puts = append(b.puts, put{at, at, b.pointerSlot(f.Name, t)})
	}
}

// pointerSlot resolves what a pointer of the unwind tables leads to: often a
// writable slot that the loader fills (DW.ref.*).
func (b *builder) pointerSlot(name string, p cfi.Pointer) target {
	at := module.Addr(p.Value)
	if p.Indirect {
		if r, ok := b.New.RelocAt(at); ok {
			for _, o := range b.Old.Relocs {
				if o.Sym != "" && o.Sym == r.Sym && o.Version == r.Version && o.Type == r.Type && o.Addend == r.Addend {
					return target{where: inBaseline, addr: o.Addr}
				}
			}
			if r.Sym != "" {
				slot := b.annex.reserve(ReadOnly, 8, 8, 0)
				b.fill(slot, r, name)
				return target{where: inAnnex, annex: slot}
			}
		}
	}
	return b.resolveAddress(name, at)
}

// layAnnex gives the parts of the annex their addresses, builds the unwind
// tables and fills the fields.
func (b *builder) layAnnex() {
	a := &b.annex
	a.base[ReadOnly] = pageUp(b.New.ImageEnd()) + PageSize
	tables := a.reserve(ReadOnly, 0, 8, 0)
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
	next := a.base[ReadOnly]
	for p := range a.bytes {
		a.base[p] = next
		n := pageUp(module.Addr(len(a.bytes[p])))
		next += n
		for module.Addr(len(a.bytes[p])) < n {
			fill := byte(0)
			if Prot(p) == ReadExec {
				fill = 0xcc
			}
			a.bytes[p] = append(a.bytes[p], fill)
		}
		if n > 0 {
			b.out.Pieces = append(b.out.Pieces, Piece{Addr: a.base[p], Prot: Prot(p), Bytes: a.bytes[p]})
		}
	}
	for _, r := range a.relative {
		d := int64(a.address(r.to.annex)) - int64(a.address(r.end))
		binary.LittleEndian.PutUint32(a.bytes[r.at.prot][r.at.off:], uint32(int32(d)))
	}
	for _, l := range a.links {
		f := Fixup{At: a.address(l.at), Kind: AbsImport, Import: l.imp, Target: l.to.addr}
		if l.imp < 0 {
			f.Kind, f.Import = AbsOverlay, 0
			switch l.to.where {
			case inBaseline:
				f.Kind = AbsBaseline
			case inAnnex:
				f.Target = a.address(l.to.annex)
			}
		}
		binary.LittleEndian.PutUint64(a.bytes[l.at.prot][l.at.off:], uint64(f.Target))
		b.out.Fixups = append(b.out.Fixups, f)
	}
}

func pageUp(a module.Addr) module.Addr { return (a + PageSize - 1) &^ (PageSize - 1) }

// layPages makes the pieces of the fixed build's own pages: included code,
// the rest of those pages int3, and read-only data whole pages at a time.
func layPages(m *module.Module, code, consts []module.Range) []Piece {
	pages := make(map[module.Addr]*Piece)
	each := func(r module.Range, prot Prot, fill func(p *Piece, r module.Range)) {
		for a := r.Start &^ (PageSize - 1); a < r.End; a += PageSize {
			p := pages[a]
			if p == nil {
				p = &Piece{Addr: a, Prot: prot, Bytes: make([]byte, PageSize)}
				pages[a] = p
				if prot == ReadExec {
					for i := range p.Bytes {
						p.Bytes[i] = 0xcc
					}
				}
			}
			fill(p, module.Range{Start: max(r.Start, a), End: min(r.End, a+PageSize)})
		}
	}
	copyIn := func(p *Piece, r module.Range) { copy(p.Bytes[r.Start-p.Addr:], m.Bytes(r)) }
	for _, r := range code {
		each(r, ReadExec, copyIn)
	}
	for _, r := range consts {
		each(r, ReadOnly, func(p *Piece, r module.Range) {
			if p.Prot == ReadOnly {
				// What else the page holds is constant too; an object that
				// reaches further than was seen is then still whole.
				if s := m.SectionAt(r.Start); s != nil {
					r = module.Range{Start: max(s.Start, p.Addr), End: min(s.End, p.Addr+PageSize)}
				}
			}
			copyIn(p, r)
		})
	}
	var out []Piece
	for _, p := range pages {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b Piece) int { return int(int64(a.Addr) - int64(b.Addr)) })
	merged := out[:0]
	for _, p := range out {
		if n := len(merged); n > 0 && merged[n-1].Prot == p.Prot && merged[n-1].Addr+module.Addr(len(merged[n-1].Bytes)) == p.Addr {
			merged[n-1].Bytes = append(merged[n-1].Bytes, p.Bytes...)
			continue
		}
		merged = append(merged, p)
	}
	return merged
}
