package patch

import (
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// blob is read-only data of uncertain extent that comes along. Blobs that
// touch become one, so that distances within an object stay what they are.
type blob struct {
	from module.Range
	at   annexAt
}

// addBlob has read-only data come along, with what its pointers lead to.
func (b *builder) addBlob(name string, r module.Range) {
	b.blobs = append(b.blobs, blob{from: r})
	for _, rel := range b.New.RelocsIn(r) {
		if _, seen := b.pointers[rel.Addr]; seen {
			continue
		}
		b.pointers[rel.Addr] = target{} // it may lead back
		to, _ := rel.Leads()
		b.pointers[rel.Addr] = b.resolveAddress(name, to)
	}
}

// around is for an operand that is indexed from an address (table(,index,8)). A
// compiler may have put a part of the index into the address, so that what is
// used begins behind it. It refuses unless code of the baseline indexes from the
// same address, or all that lies behind it keeps its distance to it.
func (b *builder) around(f *module.Func, r *module.Ref, to target) {
	const most = 4096 // bytes
	s := b.New.SectionAt(r.Target)
	if !r.Indexed() || to.where == nowhere || s == nil || s.Exec || b.isTable(r.Target) || b.indexedBefore()[r.Target] {
		return
	}
	window := module.Range{Start: r.Target, End: min(r.Target+most, s.End)}
	if to.where == inBlob {
		b.addBlob(f.Name, window)
		return
	}
	for _, a := range b.New.AnchorsIn(module.Range{Start: r.Target + 1, End: window.End}) {
		old, ok := b.OldConstant(a)
		if s.Write {
			old, ok = b.OldData(a)
		}
		if fresh, isNew := b.Fresh(r.Target); isNew {
			ok, old = fresh.Contains(a), to.addr+(a-r.Target)
		}
		if !ok || old-to.addr != a-r.Target {
			b.refuse(diff.UnpairedData, f.Name, "indexes from %v, and what lies behind it at %v lies elsewhere in the baseline", r.Target, a)
			return
		}
	}
}

// indexedBefore are the addresses of data whose counterparts code of the
// baseline indexes from.
func (b *builder) indexedBefore() map[module.Addr]bool {
	if b.indexed != nil {
		return b.indexed
	}
	b.indexed = make(map[module.Addr]bool)
	for _, f := range b.Old.Funcs {
		for i := range f.Refs {
			if r := &f.Refs[i]; r.Indexed() {
				for _, n := range b.Counterparts(r.Target) {
					b.indexed[n] = true
				}
			}
		}
	}
	return b.indexed
}

// placeBlobs merges the blobs and gives them their places.
func (b *builder) placeBlobs() {
	const align = 64 // what compilers give to large constants
	slices.SortFunc(b.blobs, func(x, y blob) int { return int(int64(x.from.Start) - int64(y.from.Start)) })
	merged := b.blobs[:0]
	for _, x := range b.blobs {
		if n := len(merged); n > 0 && x.from.Start <= merged[n-1].from.End {
			merged[n-1].from.End = max(merged[n-1].from.End, x.from.End)
			continue
		}
		merged = append(merged, x)
	}
	b.blobs = merged
	for i := range b.blobs {
		x := &b.blobs[i]
		x.at = b.annex.reserveLike(ReadOnly, x.from, align)
		copy(b.annex.bytes[ReadOnly][x.at.off:], b.New.Bytes(x.from))
		for _, rel := range b.New.RelocsIn(x.from) {
			to, known := b.pointers[rel.Addr]
			if !known || to.where == nowhere || rel.Addr+rel.Size() > x.from.End {
				b.refuse(diff.ConstantData, b.New.Name, "the pointer at %v, in constants that come along, has no certain place", rel.Addr)
				continue
			}
			b.out.Escapes = b.out.Escapes || to.where == inOverlay
			b.annex.links = append(b.annex.links, link{at: annexAt{ReadOnly, x.at.off + uint64(rel.Addr-x.from.Start)}, to: to, imp: -1})
		}
	}
}

// blobAt is the place of the read-only data that the fixed build has at a.
func (b *builder) blobAt(a module.Addr) annexAt {
	for _, x := range b.blobs {
		if x.from.Contains(a) {
			return annexAt{ReadOnly, x.at.off + uint64(a-x.from.Start)}
		}
	}
	return annexAt{}
}
