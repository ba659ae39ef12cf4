package check_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
)

// A seed spoils a patch in one way.
type seed struct {
	kind, name string
	spoil      func(*patch.Patch)
}

// seeder makes the seeds for one patch. It knows the builds as the builder
// reads them, to find the places that matter.
type seeder struct {
	testing.TB
	old, fixed *module.Module
	patch      *patch.Patch
	seeds      []seed
	rand       *rand.Rand
}

func (s *seeder) add(kind, name string, spoil func(*patch.Patch)) {
	s.seeds = append(s.seeds, seed{kind, name, spoil})
}

var shifts = []int{1, 4, 8, 16}

// field is n bytes of a patch's overlay.
func field(p *patch.Patch, a module.Addr, n int) []byte {
	for i := range p.Pieces {
		s := &p.Pieces[i]
		if s.Addr <= a && a+module.Addr(n) <= s.Addr+module.Addr(len(s.Bytes)) {
			return s.Bytes[a-s.Addr:][:n]
		}
	}
	return nil
}

// move adds to the number in a field of 4 or 8 bytes.
func move(p *patch.Patch, a module.Addr, n int, by int64) {
	b := field(p, a, n)
	if n == 4 {
		binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)+uint32(by))
		return
	}
	binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)+uint64(by))
}

// fixups seeds fixups that lie elsewhere, lead elsewhere, or are of another kind.
func (s *seeder) fixups() {
	for i, f := range s.patch.Fixups {
		for _, d := range shifts {
			s.add("fixup at", fmt.Sprintf("%d by %d", i, d), func(p *patch.Patch) { p.Fixups[i].At += module.Addr(d) })
			s.add("fixup says", fmt.Sprintf("%d by %d", i, d), func(p *patch.Patch) { p.Fixups[i].Target += module.Addr(d) })
		}
		s.add("fixup missing", fmt.Sprint(i), func(p *patch.Patch) { p.Fixups = slices.Delete(p.Fixups, i, i+1) })
		if f.Kind == patch.AbsImport {
			s.add("behind an import", fmt.Sprint(i), func(p *patch.Patch) { move(p, p.Fixups[i].At, 8, 16) })
		}
		if f.Size() == 8 {
			for k := patch.AbsBaseline; k <= patch.AbsImport; k++ {
				if k != f.Kind {
					s.add("fixup kind", fmt.Sprintf("%d is %v", i, k), func(p *patch.Patch) { p.Fixups[i].Kind = k })
				}
			}
		}
	}
}

// targets seeds references that lead a few bytes away, to a neighbour, or to
// what another reference leads to.
func (s *seeder) targets() {
	lead := func(kind string, i int, to module.Addr) {
		f := s.patch.Fixups[i]
		if f.Kind == patch.AbsImport || to == f.Target || s.alike(f.At, f.Target, to) {
			return
		}
		s.add(kind, fmt.Sprintf("%d to %v, not %v", i, to, f.Target), func(p *patch.Patch) {
			move(p, p.Fixups[i].At, p.Fixups[i].Size(), int64(to-f.Target))
			p.Fixups[i].Target = to
		})
	}
	for i, f := range s.patch.Fixups {
		for _, d := range shifts {
			lead("target", i, f.Target+module.Addr(d))
			lead("target", i, f.Target-module.Addr(d))
		}
		lead("neighbour", i, s.old.NextAnchor(f.Target))
		if a, ok := s.old.LastAnchor(f.Target); ok {
			lead("neighbour", i, a)
		}
		for k, g := range s.patch.Fixups {
			if k != i && f.Kind == g.Kind && (k+i)%3 == 0 {
				lead("another's target", i, g.Target)
			}
		}
	}
}

// alike reports whether an access at a place finds the same constant at two
// addresses: then leading there is no fault.
func (s *seeder) alike(at, a, b module.Addr) bool {
	sa, sb := s.old.SectionAt(a), s.old.SectionAt(b)
	if sa == nil || sb == nil {
		return false
	}
	for _, f := range s.patch.Functions {
		for _, r := range f.Ranges {
			for c := r.Start; r.Contains(at) && c < r.End; {
				in, err := x86.Decode(field(s.patch, c, int(r.End-c)))
				if err != nil {
					return false
				}
				if c+module.Addr(in.DispOff) == at {
					n := max(int(in.MemSize), len(s.old.Text(a))+1)
					x, y := s.old.Bytes(module.Range{Start: a, End: a + module.Addr(n)}), s.old.Bytes(module.Range{Start: b, End: b + module.Addr(n)})
					return !sa.Write && !sa.Exec && !sb.Write && !sb.Exec && slices.Equal(x, y) && (in.MemSize > 0 || n > 1)
				}
				c += module.Addr(in.Len)
			}
		}
	}
	return false
}

// inside seeds references from the overlay to itself.
func (s *seeder) inside() {
	for _, f := range s.patch.Functions {
		for k, r := range f.Ranges {
			fixed := f.Fixed[k]
			for c := r.Start; c < r.End; {
				in, err := x86.Decode(field(s.patch, c, int(r.End-c)))
				if err != nil {
					s.Fatal(err)
				}
				at := c + module.Addr(in.DispOff)
				t := module.Addr(in.Target(uint64(c)))
				leaves := in.RIP || in.Relative() && !r.Contains(t)
				fixup := slices.ContainsFunc(s.patch.Fixups, func(f patch.Fixup) bool { return f.At == at })
				if leaves && !fixup {
					for _, d := range shifts {
						if n := int(in.MemSize); in.Map == 0 && in.Opcode != 0x8d && n > 0 && n <= 16 && slices.Equal(field(s.patch, t, n), field(s.patch, t+module.Addr(d), n)) {
							continue // reads the same
						}
						s.add("inside", fmt.Sprintf("%v by %d", at, d), func(p *patch.Patch) { move(p, at, 4, int64(d)) })
					}
					s.constant(t, fixed.Start+(c-r.Start), &in)
				}
				c += module.Addr(in.Len)
			}
		}
	}
}

// constant seeds other content where a reference leads.
func (s *seeder) constant(t, at module.Addr, in *x86.Inst) {
	for i := range s.patch.Pieces {
		p := &s.patch.Pieces[i]
		if p.Prot == patch.ReadExec || t < p.Addr || t >= p.Addr+module.Addr(len(p.Bytes)) {
			continue
		}
		n := max(int(in.MemSize), 1)
		for _, o := range []int{0, n - 1} {
			s.add("content", fmt.Sprintf("%v, for %v", t+module.Addr(o), at), func(p *patch.Patch) { field(p, t+module.Addr(o), 1)[0] ^= 0x41 })
		}
	}
}

// functions seeds functions that are not there, not whole, or not steered.
func (s *seeder) functions() {
	for i, f := range s.patch.Functions {
		s.add("left out", f.Name+" not listed", func(p *patch.Patch) { p.Functions = slices.Delete(p.Functions, i, i+1) })
		s.add("left out", f.Name+" is int3", func(p *patch.Patch) { wipe(p, f.Ranges) })
		s.add("left out", f.Name+" without a trace", func(p *patch.Patch) {
			wipe(p, f.Ranges)
			p.Functions = slices.Delete(p.Functions, i, i+1)
			in := func(a module.Addr) bool {
				return slices.ContainsFunc(f.Ranges, func(r module.Range) bool { return r.Contains(a) })
			}
			p.Steers = slices.DeleteFunc(p.Steers, func(s patch.Steer) bool { return in(s.To) })
			p.Fixups = slices.DeleteFunc(p.Fixups, func(x patch.Fixup) bool { return in(x.At) })
			p.Old = slices.DeleteFunc(p.Old, func(o patch.OldFunc) bool { return o.Ranges[0].Start == f.Old })
		})
		for k := range s.patch.Functions {
			if k != i {
				s.add("function", f.Name+" is another", func(p *patch.Patch) { p.Functions[i].Fixed = p.Functions[k].Fixed })
			}
		}
		if f.Old != 0 {
			s.add("function", f.Name+" is new", func(p *patch.Patch) { p.Functions[i].Change = patch.Added })
			s.add("function", f.Name+" was elsewhere", func(p *patch.Patch) { p.Functions[i].Old += 16 })
		}
		for _, r := range f.Ranges {
			for range 8 {
				s.codeByte(&f, r, r.Start+module.Addr(s.rand.Uint64N(r.Len())), byte(1)<<s.rand.IntN(8))
			}
		}
	}
}

// codeByte seeds another byte of code, unless it says where a reference leads:
// those are seeded elsewhere.
func (s *seeder) codeByte(f *patch.Function, r module.Range, at module.Addr, with byte) {
	for c := r.Start; c < r.End; {
		in, err := x86.Decode(field(s.patch, c, int(r.End-c)))
		if err != nil {
			s.Fatal(err)
		}
		from := c + module.Addr(in.DispOff)
		if in.RIP && from <= at && at < from+module.Addr(in.DispLen) {
			return
		}
		c += module.Addr(in.Len)
	}
	s.add("code byte", fmt.Sprintf("%v of %s", at, f.Name), func(p *patch.Patch) { field(p, at, 1)[0] ^= with })
}

func wipe(p *patch.Patch, ranges []module.Range) {
	for _, r := range ranges {
		b := field(p, r.Start, int(r.Len()))
		for i := range b {
			b[i] = 0xcc
		}
	}
}

func (s *seeder) steers() {
	for i, x := range s.patch.Steers {
		s.add("steer", x.Name+" missing", func(p *patch.Patch) { p.Steers = slices.Delete(p.Steers, i, i+1) })
		for _, d := range shifts {
			s.add("steer", fmt.Sprintf("%s leads %d too far", x.Name, d), func(p *patch.Patch) { p.Steers[i].To += module.Addr(d) })
			s.add("steer", fmt.Sprintf("%s lies %d too far", x.Name, d), func(p *patch.Patch) { p.Steers[i].At += module.Addr(d) })
		}
		for k := range x.Old {
			s.add("old bytes", fmt.Sprintf("%s, byte %d", x.Name, k), func(p *patch.Patch) { p.Steers[i].Old[k] ^= 4 })
		}
		for k, f := range s.patch.Functions {
			if f.Ranges[0].Start != x.To {
				s.add("steer", x.Name+" to "+f.Name, func(p *patch.Patch) { p.Steers[i].To = p.Functions[k].Ranges[0].Start })
			}
		}
		for _, f := range s.old.Funcs {
			b := s.old.Bytes(module.Range{Start: f.Entry(), End: f.Entry() + 9})
			if f.Size() < 16 || b == nil || f.Entry() == x.At || f.Entry()+4 == x.At || s.rand.IntN(3) > 0 {
				continue
			}
			s.add("steer", fmt.Sprintf("%s from %s", x.Name, f.Name), func(p *patch.Patch) {
				p.Steers[i].At = f.Entry()
				if in, err := x86.Decode(b); err == nil && in.Kind == x86.Endbr {
					p.Steers[i].At, b = f.Entry()+4, b[4:]
				}
				copy(p.Steers[i].Old[:], b)
			})
		}
	}
	for i := range s.patch.Old {
		s.add("old function", fmt.Sprint(i, " missing"), func(p *patch.Patch) { p.Old = slices.Delete(p.Old, i, i+1) })
		s.add("old function", fmt.Sprint(i, " digest"), func(p *patch.Patch) { p.Old[i].Digest[7] ^= 1 })
		s.add("old function", fmt.Sprint(i, " short"), func(p *patch.Patch) { p.Old[i].Ranges[0].End -= 4 })
	}
}

// tables seeds jump tables, found as the builder finds them.
func (s *seeder) tables() {
	for _, f := range s.patch.Functions {
		g := s.fixed.FuncAt(f.Fixed[0].Start)
		for i := range g.Refs {
			r := &g.Refs[i]
			for _, t := range g.Tables {
				if t.Addr != r.Target {
					continue
				}
				field4 := s.overlayOf(&f, r.At+module.Addr(r.FieldOff))
				table := field4 + 4 + module.Addr(int64(int32(binary.LittleEndian.Uint32(field(s.patch, field4, 4)))))
				for k := range t.Targets {
					at := table + module.Addr(4*k)
					for _, d := range shifts {
						s.add("jump table", fmt.Sprintf("entry %d by %d", k, d), func(p *patch.Patch) { move(p, at, 4, int64(d)) })
					}
					if k > 0 && s.fixed.Entry(t, k) != s.fixed.Entry(t, k-1) {
						s.add("jump table", fmt.Sprintf("entry %d is the one before", k), func(p *patch.Patch) { copy(field(p, at, 4), field(p, at-4, 4)) })
					}
				}
			}
		}
	}
}

func (s *seeder) overlayOf(f *patch.Function, a module.Addr) module.Addr {
	for k, r := range f.Fixed {
		if r.Contains(a) {
			return f.Ranges[k].Start + (a - r.Start)
		}
	}
	s.Fatalf("%v is not in %s", a, f.Name)
	return 0
}

// unwind seeds the unwind tables byte by byte, and what they lead to.
func (s *seeder) unwind() {
	hdr := s.patch.EHFrameHdr
	var piece *patch.Piece
	for i := range s.patch.Pieces {
		if p := &s.patch.Pieces[i]; p.Addr <= hdr && hdr < p.Addr+module.Addr(len(p.Bytes)) {
			piece = p
		}
	}
	b := piece.Bytes[hdr-piece.Addr:]
	frames := uint64(hdr) + 4 + uint64(int64(int32(binary.LittleEndian.Uint32(b[4:]))))
	table, err := cfi.Parse(b[frames-uint64(hdr):], frames)
	if err != nil {
		s.Fatal(err)
	}
	for o := 0; o < int(frames-uint64(hdr)); o++ {
		if o < 12+8*len(table.FDEs) { // behind it is alignment
			s.add("unwind", fmt.Sprintf("header byte %d", o), func(p *patch.Patch) { field(p, hdr+module.Addr(o), 1)[0] ^= 2 })
		}
	}
	end := frames
	for at := frames; ; {
		n := uint64(binary.LittleEndian.Uint32(b[at-uint64(hdr):]))
		if end = at; n == 0 {
			break
		}
		at += 4 + n
	}
	for a := frames; a < end; a += 1 + s.rand.Uint64N(3) {
		s.add("unwind", fmt.Sprintf("byte %#x", a), func(p *patch.Patch) { field(p, module.Addr(a), 1)[0] ^= 1 })
	}
	for _, f := range table.FDEs {
		if f.LSDA.Enc == 0xff || f.LSDA.Value == 0 {
			continue
		}
		l, err := cfi.ParseLSDA(piece.Bytes, uint64(piece.Addr), f.LSDA.Value, f.Start)
		if err != nil {
			s.Fatal(err)
		}
		s.handlers(piece, &f, &l)
	}
}

// handlers seeds an exception table, where its readers see a difference.
func (s *seeder) handlers(piece *patch.Piece, f *cfi.FDE, l *cfi.LSDA) {
	for a := l.Start; a < l.End; a++ {
		o := a - uint64(piece.Addr)
		other := slices.Clone(piece.Bytes)
		other[o] ^= 1
		m, err := cfi.ParseLSDA(other, uint64(piece.Addr), f.LSDA.Value, f.Start)
		if err == nil && fmt.Sprint(m.Sites, m.Types) == fmt.Sprint(l.Sites, l.Types) {
			continue
		}
		s.add("exception table", fmt.Sprintf("byte %#x", a), func(p *patch.Patch) { field(p, module.Addr(a), 1)[0] ^= 1 })
	}
}

// rest seeds what is said of the whole.
func (s *seeder) rest() {
	for i, x := range s.patch.Imports {
		s.add("import", x.Name+" by another name", func(p *patch.Patch) { p.Imports[i].Name += "x" })
		s.add("import", x.Name+" of another version", func(p *patch.Patch) { p.Imports[i].Version += "9" })
		for k := range s.patch.Imports {
			if k > i {
				s.add("import", "two exchanged", func(p *patch.Patch) { p.Imports[i], p.Imports[k] = p.Imports[k], p.Imports[i] })
			}
		}
	}
	for i, x := range s.patch.Exports {
		s.add("export", x.Name+" missing", func(p *patch.Patch) { p.Exports = slices.Delete(p.Exports, i, i+1) })
		s.add("export", x.Name+" elsewhere", func(p *patch.Patch) { p.Exports[i].At += 16 })
	}
	for i, x := range s.patch.Pieces {
		s.add("piece", fmt.Sprintf("%d has another protection", i), func(p *patch.Patch) { p.Pieces[i].Prot = (x.Prot + 1) % 3 })
		s.add("piece", fmt.Sprintf("%d has none of the protections", i), func(p *patch.Patch) { p.Pieces[i].Prot = 7 })
		s.add("piece", fmt.Sprintf("%d lies a page further", i), func(p *patch.Patch) { p.Pieces[i].Addr += patch.PageSize })
		if x.Prot == patch.ReadExec {
			s.add("padding", "a nop", func(p *patch.Patch) { p.Pieces[i].Bytes[len(x.Bytes)-1] = 0x90 })
			s.add("padding", "a return", func(p *patch.Patch) { p.Pieces[i].Bytes[len(x.Bytes)-9] = 0xc3 })
		}
	}
	for i := range s.patch.Variables {
		for _, d := range shifts {
			s.add("new variable", fmt.Sprintf("%d by %d", i, d), func(p *patch.Patch) { p.Variables[i].At += module.Addr(d) })
		}
	}
	s.add("identity", "baseline", func(p *patch.Patch) { p.Baseline = p.Fixed })
	s.add("identity", "fixed", func(p *patch.Patch) { p.Fixed = p.Baseline })
	s.add("header", "in the code", func(p *patch.Patch) { p.Header = p.Pieces[0].Addr })
	s.add("flags", "exchanged one by one", func(p *patch.Patch) { p.EntryAllowed = len(p.Steers) != 1; p.Steers = nil })
	if s.patch.Escapes {
		s.add("flags", "code stays inside", func(p *patch.Patch) { p.Escapes = false })
	}
	for i := range s.patch.Pairs {
		for _, d := range []int{4, 8, 4096} {
			s.add("pairs", fmt.Sprintf("%d by %d", i, d), func(p *patch.Patch) { p.Pairs[i][0] += module.Addr(d) })
		}
	}
}

func (s *seeder) all() []seed {
	s.fixups()
	s.targets()
	s.inside()
	s.functions()
	s.steers()
	s.tables()
	s.unwind()
	s.rest()
	return s.seeds
}
