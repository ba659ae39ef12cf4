package diff

import "hotpatch/internal/module"

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
	fresh := r.fresh(s)
	if len(fresh) == 0 || a < fresh[0] || !r.explained(s, fresh) {
		return module.Range{}, false
	}
	return module.Range{Start: fresh[0], End: s.new.End}, true
}

// fresh are the addresses in a segment that only code of the fixed build
// which changed refers to.
func (r *Result) fresh(s *segment) []module.Addr {
	var out []module.Addr
	for _, a := range r.New.AnchorsIn(s.new) {
		if _, ok := r.data.toOld[a]; !ok && a != s.new.Start {
			out = append(out, a)
		}
	}
	return out
}

// explained reports whether new objects, or alignment, account exactly for a
// segment whose length changed. Anything else is an object that grew or shrank.
func (r *Result) explained(s *segment, fresh []module.Addr) bool {
	const slack = 32 // bytes of alignment between two objects (psABI 3.1.2: arrays and large structs)
	lo, ln := s.old.Len(), s.new.Len()
	for _, a := range r.Old.AnchorsIn(s.old) {
		if _, ok := r.data.toNew[a]; !ok && a != s.old.Start {
			return false // something went, too
		}
	}
	if len(fresh) > 0 && ln > lo {
		before := uint64(fresh[0] - s.new.Start)
		return max(before, lo)-min(before, lo) < slack
	}
	align := uint64(64)
	for align > 1 && (uint64(s.old.End)%align != 0 || uint64(s.new.End)%align != 0) {
		align /= 2
	}
	return len(fresh) == 0 && max(lo, ln)-min(lo, ln) < align
}
