package diff

import (
	"debug/elf"
	"slices"

	"hotpatch/internal/module"
)

// Fresh is the stretch of new writable objects of the fixed build that a lies
// in: variables that the baseline does not have. Unpaired alone is not new:
// the growth of the segment has to account for them.
func (r *Result) Fresh(a module.Addr) (module.Range, bool) {
	s := r.data.segment(a)
	if s == nil || s.sure {
		return module.Range{}, false
	}
	if _, paired := r.data.toOld[a]; paired {
		return module.Range{}, false
	}
	all, ok := module.Range{}, false
	if fresh := r.fresh(s); s.added != nil {
		all, ok = s.added.Range, s.added.certain.Contains(a)
	} else if len(fresh) > 0 && a >= fresh[0] && r.explained(s, fresh) {
		all, ok = module.Range{Start: fresh[0], End: s.new.End}, true
	}
	// Another module's variable, which the loader would move here, is none:
	// that module would not know of a second one.
	copied := func(r module.Reloc) bool { return r.Type == elf.R_X86_64_COPY }
	return all, ok && !slices.ContainsFunc(r.New.RelocsIn(all), copied)
}

// fresh are the addresses in a segment that only code of the fixed build
// which changed refers to.
func (r *Result) fresh(s *segment) []module.Addr {
	var out []module.Addr
	for _, a := range r.New.AnchorsIn(s.new) {
		if _, ok := r.data.toOld[a]; !ok && (a != s.new.Start || s.old.Len() == 0) {
			out = append(out, a)
		}
	}
	return out
}

// explained reports whether new objects, or alignment, account exactly for a
// segment whose length changed. Anything else is an object that grew or shrank.
func (r *Result) explained(s *segment, fresh []module.Addr) bool {
	const slack = 64 // bytes of alignment between two objects, at most
	lo, ln := s.old.Len(), s.new.Len()
	for _, a := range r.Old.AnchorsIn(s.old) {
		if _, ok := r.data.toNew[a]; !ok && a != s.old.Start {
			return false // something went, too
		}
	}
	if len(fresh) > 0 {
		// What lies before the new objects has as much room as in the baseline,
		// or more by alignment. With less, the first of them is inside it.
		before := uint64(fresh[0] - s.new.Start)
		return ln > lo && (before == lo || before > lo && before-lo < slack && !r.reached(s, fresh[0], lo))
	}
	align := uint64(slack)
	for align > 1 && (uint64(s.old.End)%align != 0 || uint64(s.new.End)%align != 0) {
		align /= 2
	}
	return ln < lo && lo-ln < align || ln > lo && ln-lo < align && !r.reached(s, s.new.End, lo)
}

// reached reports whether changed code may use more than the first n bytes of
// what lies in a segment before end: then alignment does not explain the
// growth, since an object there may have grown.
func (r *Result) reached(s *segment, end module.Addr, n uint64) bool {
	for _, c := range r.Changes {
		for i := range c.New.Refs {
			ref := &c.New.Refs[i]
			if ref.Target < s.new.Start || ref.Target >= end {
				continue
			}
			if ref.Kind != module.RefMemory || ref.MemSize == 0 || uint64(ref.Target-s.new.Start)+uint64(ref.MemSize) > n {
				return true
			}
		}
	}
	return false
}

// newExports are the functions that only the fixed build exports. Another
// module of the same update may import them.
func (c *comparer) newExports() []module.Addr {
	old := make(map[string]bool)
	for _, s := range c.Old.Symbols {
		if s.Dynamic && s.Defined {
			old[s.Name+"@"+s.Version] = true
		}
	}
	var out []module.Addr
	for _, s := range c.New.Symbols {
		if s.Dynamic && s.Defined && s.Type == elf.STT_FUNC && !old[s.Name+"@"+s.Version] {
			out = append(out, s.Addr)
		}
	}
	return out
}
