package patch

import (
	"bytes"
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// checkEnds looks at the addresses of data that a function takes. The end of
// an array looks like the object behind it, and the two may lie apart in the
// overlay's world: the array in the baseline, say, and a new object behind it
// in the annex. Then a loop from start to end would not end. An address
// counts as an end when the function takes one before it in the same section
// too, and it is refused unless both readings lead to the same place.
func (b *builder) checkEnds(f *module.Func, targets []target) {
	type ref struct {
		addr module.Addr
		to   target
	}
	var refs []ref
	for i := range f.Refs {
		r := &f.Refs[i]
		s := b.New.SectionAt(r.Target)
		if r.Kind != module.RefAddress || targets[i].where == nowhere || s != nil && s.Exec || b.isTable(r.Target) {
			continue
		}
		refs = append(refs, ref{r.Target, targets[i]})
	}
	slices.SortFunc(refs, func(x, y ref) int { return int(int64(x.addr) - int64(y.addr)) })
	refs = slices.CompactFunc(refs, func(x, y ref) bool { return x.addr == y.addr })
	for i := 1; i < len(refs); i++ {
		p, t := refs[i-1], refs[i]
		s := b.New.SectionAt(p.addr)
		if s == nil || t.addr > s.End || b.New.SectionAt(t.addr) != nil && b.New.SectionAt(t.addr) != s {
			continue // not even the end of the section
		}
		if p.to.where == inBlob && t.to.where == inBlob {
			b.blobs = append(b.blobs, blob{from: module.Range{Start: p.addr, End: t.addr}}) // keeps them together
			continue
		}
		if p.to.where == t.to.where && b.distance(p.to, t.to) == t.addr-p.addr || b.apart(p.addr, t.addr, s) || b.follows(t.addr, p.to, t.to, s) {
			continue
		}
		b.refuse(diff.UnpairedData, f.Name, "takes the address %v, which may be the end of what starts at %v or another object", t.addr, p.addr)
	}
}

func (b *builder) isTable(a module.Addr) bool { return b.New.AnchorAt(a)&module.AnchorTable != 0 }

func (b *builder) distance(p, t target) module.Addr {
	if p.where == inAnnex {
		if p.annex.prot != t.annex.prot {
			return ^module.Addr(0)
		}
		return module.Addr(t.annex.off - p.annex.off)
	}
	return t.addr - p.addr
}

// apart reports whether the object at p certainly ends before t: p is a text
// and t not its end, or a text lies in between; p is no array, but belongs to a
// class.
func (b *builder) apart(p, t module.Addr, s *module.Section) bool {
	if s.Write || diff.Class(b.New, p) {
		return !s.Write || s.Relro && diff.Class(b.New, p)
	}
	if text := b.New.Text(p); text != "" {
		n := t - p - module.Addr(len(text))
		return n > 1 || n == 1 && b.New.OnlyText(p)
	}
	return slices.ContainsFunc(b.New.AnchorsIn(module.Range{Start: p + 1, End: t}), b.New.OnlyText)
}

// follows reports whether in the baseline, too, what lies before t in the
// fixed build lies before its counterpart.
func (b *builder) follows(t module.Addr, p, to target, s *module.Section) bool {
	if p.where != inBaseline || to.where != inBaseline {
		return false
	}
	if s.Write {
		before, ok := b.OldData(t - 1)
		return ok && before+1 == to.addr
	}
	q, ok := b.New.LastAnchor(t)
	if !ok {
		return false
	}
	o, ok := b.OldConstant(q)
	return ok && o+(t-q) == to.addr &&
		bytes.Equal(b.New.Bytes(module.Range{Start: q, End: t}), b.Old.Bytes(module.Range{Start: o, End: to.addr}))
}
