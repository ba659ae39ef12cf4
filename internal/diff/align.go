package diff

import "hotpatch/internal/module"

// A run says that n instructions from i in the one body stand at j in the other.
type run struct{ i, j, n int }

func exact(i *module.Instr) uint64 { return i.Key }
func shape(i *module.Instr) uint64 { return i.Shape }

func (c *comparer) body(m *module.Module, f *module.Func) []module.Instr {
	if b, ok := c.bodies[f]; ok {
		return b
	}
	b := m.Body(f)
	c.bodies[f] = b
	return b
}

// align is a common subsequence of two bodies as runs: the longest one where
// the stretch is small, else one through the instructions that occur once.
func align(a, b []module.Instr, key func(*module.Instr) uint64) []run {
	ka, kb := make([]uint64, len(a)), make([]uint64, len(b))
	for i := range a {
		ka[i] = key(&a[i])
	}
	for i := range b {
		kb[i] = key(&b[i])
	}
	var out []run
	alignKeys(ka, kb, 0, 0, 0, func(i, j int) {
		if n := len(out); n > 0 && out[n-1].i+out[n-1].n == i && out[n-1].j+out[n-1].n == j {
			out[n-1].n++
		} else {
			out = append(out, run{i, j, 1})
		}
	})
	return out
}

func alignKeys(a, b []uint64, i0, j0, depth int, emit func(i, j int)) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		emit(i0, j0)
		a, b, i0, j0 = a[1:], b[1:], i0+1, j0+1
	}
	tail := 0
	for tail < len(a) && tail < len(b) && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	ma, mb := a[:len(a)-tail], b[:len(b)-tail]
	switch {
	case len(ma) == 0 || len(mb) == 0:
	case len(ma)*len(mb) <= 1<<18:
		longestCommon(ma, mb, i0, j0, emit)
	case depth < 20:
		lo := [2]int{-1, -1}
		chain := uniqueChain(ma, mb)
		if len(chain) == 0 {
			break
		}
		for _, p := range append(chain, [2]int{len(ma), len(mb)}) {
			alignKeys(ma[lo[0]+1:p[0]], mb[lo[1]+1:p[1]], i0+lo[0]+1, j0+lo[1]+1, depth+1, emit)
			if p[0] < len(ma) {
				emit(i0+p[0], j0+p[1])
			}
			lo = p
		}
	}
	for k := range tail {
		emit(i0+len(ma)+k, j0+len(mb)+k)
	}
}

func uniqueChain(a, b []uint64) [][2]int {
	type where struct{ j, na, nb int }
	seen := make(map[uint64]*where, len(a))
	for _, k := range a {
		if seen[k] == nil {
			seen[k] = &where{}
		}
		seen[k].na++
	}
	for j, k := range b {
		if w := seen[k]; w != nil {
			w.j, w.nb = j, w.nb+1
		}
	}
	var cand [][2]int
	for i, k := range a {
		if w := seen[k]; w.na == 1 && w.nb == 1 {
			cand = append(cand, [2]int{i, w.j})
		}
	}
	return longestIncreasing(cand)
}

// longestCommon is the textbook dynamic program.
func longestCommon(a, b []uint64, i0, j0 int, emit func(i, j int)) {
	w := len(b) + 1
	best := make([]uint16, (len(a)+1)*w)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				best[i*w+j] = best[(i+1)*w+j+1] + 1
			} else {
				best[i*w+j] = max(best[(i+1)*w+j], best[i*w+j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			emit(i0+i, j0+j)
			i, j = i+1, j+1
		case best[(i+1)*w+j] >= best[i*w+j+1]:
			i++
		default:
			j++
		}
	}
}
