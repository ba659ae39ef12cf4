package diff

import (
	"debug/elf"
	"slices"

	"hotpatch/internal/module"
)

// A copied object is another module's, which the loader moves into this one
// (R_X86_64_COPY, psABI x86-64, 4.4.1) so that code here can refer to it as to
// its own. Its place among the others says nothing: the linker orders them by
// a hash of their names.
type copied struct {
	module.Range
	names []string // it may have several, with version
}

// copies are a module's copied objects, by address.
func copies(m *module.Module) []copied {
	at := make(map[module.Addr]*copied)
	for _, r := range m.Relocs {
		if r.Type == elf.R_X86_64_COPY {
			at[r.Addr] = &copied{Range: module.Range{Start: r.Addr, End: r.Addr}}
		}
	}
	for _, s := range m.Symbols {
		if c := at[s.Addr]; c != nil && s.Dynamic && s.Defined {
			c.names = append(c.names, s.Name+"@"+s.Version)
			c.End = max(c.End, s.Addr+module.Addr(s.Size))
		}
	}
	out := make([]copied, 0, len(at))
	for _, c := range at {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b copied) int { return int(int64(a.Start) - int64(b.Start)) })
	return out
}

// Copied is the name of the copied object of the fixed build that holds a.
func (p *pairing) Copied(a module.Addr) (name string, ok bool) {
	for _, n := range p.data.copies {
		if n.Contains(a) && len(n.names) > 0 {
			return n.names[0], true
		}
	}
	return "", false
}

// copied reports whether one of two addresses, baseline first, lies in a copied object.
func (b *ballot) copied(o, n module.Addr) bool {
	holds := func(list []copied, a module.Addr) bool {
		return slices.ContainsFunc(list, func(c copied) bool { return c.Contains(a) })
	}
	return holds(b.copies[0], o) || holds(b.copies[1], n)
}

// pairCopies pairs the copied objects by name.
func (d *dataPairs) pairCopies(both [2][]copied) {
	d.copies, d.copiedFrom = both[1], make(map[module.Addr]module.Addr)
	for _, n := range both[1] {
		for _, o := range both[0] {
			if o.Len() == n.Len() && slices.ContainsFunc(n.names, func(s string) bool { return slices.Contains(o.names, s) }) {
				d.copiedFrom[n.Start] = o.Start
				d.toOld[n.Start], d.toNew[o.Start] = o.Start, n.Start
			}
		}
	}
}

// oldCopy is where the baseline has the copied object that holds a; known is
// false when none does.
func (d *dataPairs) oldCopy(a module.Addr) (o module.Addr, paired, known bool) {
	for _, n := range d.copies {
		if n.Contains(a) {
			o, paired = d.copiedFrom[n.Start]
			return o + (a - n.Start), paired, true
		}
	}
	return 0, false, false
}

// around is what a section of both builds, baseline first, has before and
// behind its copied objects, where these lie side by side. A build without any
// has them, as none, where the other build's section begins with them.
func around(m [2]*module.Module, sec [2]*module.Section, both [2][]copied) [][2]module.Range {
	whole := [][2]module.Range{{sec[0].Range, sec[1].Range}}
	var runs [2]module.Range
	var none [2]bool
	for i, s := range sec {
		run, ok := together(m[i], s, both[i])
		if !ok {
			return whole
		}
		runs[i], none[i] = run, run.End == 0
	}
	for i := range runs {
		if none[i] {
			if none[1-i] || runs[1-i].Start != sec[1-i].Start {
				return whole
			}
			runs[i] = module.Range{Start: sec[i].Start, End: sec[i].Start}
		}
	}
	return [][2]module.Range{
		{{Start: sec[0].Start, End: runs[0].Start}, {Start: sec[1].Start, End: runs[1].Start}},
		{{Start: runs[0].End, End: sec[0].End}, {Start: runs[1].End, End: sec[1].End}},
	}
}

// together is the range of the copied objects of a section; not ok when there
// may be something between them. Empty when there are none.
func together(m *module.Module, s *module.Section, list []copied) (r module.Range, ok bool) {
	const align = 64 // of an object, at most
	for _, c := range list {
		switch {
		case !s.Contains(c.Start):
		case r.End == 0:
			r = c.Range
		case c.Start > r.End && (c.Start-r.End >= align || len(m.AnchorsIn(module.Range{Start: r.End, End: c.Start})) > 0):
			return r, false
		default:
			r.End = max(r.End, c.End)
		}
	}
	return r, true
}
