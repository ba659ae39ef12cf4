package engine

import (
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
// the module is preferred: above may come the heap. image is the first address
// of the overlay in its build; an overlay whose bias differs from the module's
// by about a multiple of 16 MiB is slow (branch predictor aliasing), so such
// places are passed over.
func place(maps []process.Mapping, m *process.Module, image, size process.Addr) (process.Addr, bool) {
	lo, hi := process.Addr(lowest), m.Span.Start+reach
	if m.Span.End > reach+lowest {
		lo = m.Span.End - reach
	}
	var best process.Addr
	found, distance := false, process.Addr(0)
	gap := process.Range{Start: lowest}
	heap := false
	for _, n := range append(maps, process.Mapping{Range: process.Range{Start: 1<<47 - page, End: 1<<47 - page}}) {
		gap.End = n.Start
		if n.Start >= gap.Start {
			if a, ok := fit(gap, heap, lo, hi, m, image, size); ok {
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
func fit(gap process.Range, heap bool, lo, hi process.Addr, m *process.Module, image, size process.Addr) (process.Addr, bool) {
	room := process.Addr(guard)
	if heap {
		room = heapRoom
	}
	start, end := max(gap.Start+room, lo), min(gap.End-guard, hi)
	if gap.Start >= m.Span.End && !heap {
		// Above the module: the nearest place.
		for a := start; a+size <= end && a+size > a; a += 16 * guard {
			if !aliased(a-image, m.Bias) {
				return a, true
			}
		}
		return 0, false
	}
	if end < size {
		return 0, false
	}
	for a := (end - size) &^ (page - 1); a >= start && a < end; a -= 16 * guard {
		if !aliased(a-image, m.Bias) {
			return a, true
		}
	}
	return 0, false
}

// aliased reports whether two biases differ by a multiple of 16 MiB, within 64 KiB.
func aliased(a, b process.Addr) bool {
	d := (a - b) & (16<<20 - 1)
	return d <= 64<<10 || d >= 16<<20-64<<10
}
