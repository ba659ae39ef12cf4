package engine

import (
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

const (
	page     = 4096
	guard    = 16 * page // left free around an overlay
	reach    = 1<<31 - 1<<20
	lowest   = 1 << 20
	heapRoom = 256 << 20 // left above a heap, which grows
)

// place finds room for size bytes so near the module that a signed 32-bit
// displacement leads from any byte of one to any byte of the other. Room below
// the module is preferred: above may come the heap. Places that are slow, which
// may be nil, are passed over.
func place(maps []process.Mapping, m *process.Module, size process.Addr, slow func(process.Addr) bool) (process.Addr, bool) {
	if slow == nil {
		slow = func(process.Addr) bool { return false }
	}
	lo, hi := process.Addr(lowest), m.Span.Start+reach
	if m.Span.End > reach+lowest {
		lo = m.Span.End - reach
	}
	if m.Bias == 0 { // a program at a fixed address: its code holds addresses in 31 bits
		hi = min(hi, 1<<31)
	}
	var best process.Addr
	found, distance := false, process.Addr(0)
	gap := process.Range{Start: lowest}
	heap := false
	for _, n := range append(maps, process.Mapping{Range: process.Range{Start: 1<<47 - page, End: 1<<47 - page}}) {
		gap.End = n.Start
		if n.Start >= gap.Start {
			if a, ok := fit(gap, heap, lo, hi, m, size, slow); ok {
				d := m.Span.Start - a
				if a > m.Span.Start {
					d = 2 * reach // below first
					d += a - m.Span.Start
				}
				if !found || d < distance {
					best, distance, found = a, d, true
				}
			}
		}
		gap.Start = n.End
		heap = n.Path == "[heap]" || n.End == m.Span.End && m.Span.Start == maps[0].Start
	}
	return best, found
}

// fit finds a place in one gap: at its upper end, since what lies below may grow.
func fit(gap process.Range, heap bool, lo, hi process.Addr, m *process.Module, size process.Addr, slow func(process.Addr) bool) (process.Addr, bool) {
	room := process.Addr(guard)
	if heap {
		room = heapRoom
	}
	start, end := max(gap.Start+room, lo), min(gap.End-guard, hi)
	if gap.Start >= m.Span.End && !heap {
		// Above the module: the nearest place.
		for a := start; a+size <= end && a+size > a; a += 16 * guard {
			if !slow(a) {
				return a, true
			}
		}
		return 0, false
	}
	if end < size {
		return 0, false
	}
	for a := (end - size) &^ (page - 1); a >= start && a < end; a -= 16 * guard {
		if !slow(a) {
			return a, true
		}
	}
	return 0, false
}

// aliased reports whether an overlay at start is slow: the branch predictor
// takes a steered entry and new code for each other when their addresses
// differ by a multiple of 16 MiB, which costs some 50 ns a call.
func (u *unit) aliased(start process.Addr) bool {
	const period = 16 << 20
	over := start - process.Addr(u.patch.Span().Start)
	for _, s := range u.patch.Steers {
		for i := range u.patch.Pieces {
			p := &u.patch.Pieces[i]
			if d := (u.was(uint64(s.At)) - over - process.Addr(p.Addr)) % period; p.Prot == patch.ReadExec && d < process.Addr(len(p.Bytes)) {
				return true
			}
		}
	}
	return false
}
