package check

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sort"

	"hotpatch/internal/module/x86"
)

// aligned calls f with the references of the instructions that two bodies
// which differ have in common: runs of instructions of which both have one,
// in the same order, and what is equal around them.
func (c *checker) aligned(o, n *part, f func(x, y *ref)) {
	a, b := c.keys(c.old, o), c.keys(c.fixed, n)
	at := func(list []ref, i int) []ref {
		k := sort.Search(len(list), func(k int) bool { return int(list[k].index) >= i })
		end := sort.Search(len(list), func(k int) bool { return int(list[k].index) > i })
		return list[k:end]
	}
	for _, p := range common(a, b) {
		xs, ys := at(o.refs, p[0]), at(n.refs, p[1])
		for i := range min(len(xs), len(ys)) {
			if x, y := &xs[i], &ys[i]; x.use == y.use && x.size == y.size {
				f(x, y)
			}
		}
	}
}

var keySeed = maphash.MakeSeed()

// keys hashes each instruction of a part without what says where it leads.
func (c *checker) keys(m *image, p *part) []uint64 {
	list := c.bodyOf(m, p)
	code := m.bytes(p.start, p.end-p.start)
	out := make([]uint64, 0, len(list))
	var buf []byte
	for i := range list {
		in := &list[i]
		if in.Kind == x86.Nop {
			continue
		}
		raw := m.plain(p, in, code)
		switch {
		case in.Relative() && !in.RIP:
			buf = append(buf[:0], 0xfe, byte(in.Kind), condition(in))
		case in.RIP:
			buf = append(buf[:0], 0xfd)
			buf = append(buf, raw[:in.DispOff]...)
			buf = append(buf, raw[in.DispOff+in.DispLen:]...)
		default:
			buf = append(append(buf[:0], 0xfc), raw...)
		}
		out = append(out, maphash.Bytes(keySeed, buf))
	}
	return out
}

// common pairs the positions of two sequences that belong together.
func common(a, b []uint64) [][2]int {
	const run = 4 // keys that make a place unlike others
	places := func(s []uint64) map[[run]uint64]int {
		out := make(map[[run]uint64]int)
		for i := 0; i+run <= len(s); i++ {
			k := [run]uint64(s[i : i+run])
			if _, dup := out[k]; dup {
				out[k] = -1
			} else {
				out[k] = i
			}
		}
		return out
	}
	pa := places(a)
	var cand [][2]int
	for k, j := range places(b) {
		if i, ok := pa[k]; ok && i >= 0 && j >= 0 {
			cand = append(cand, [2]int{i, j})
		}
	}
	slices.SortFunc(cand, func(x, y [2]int) int { return cmp.Compare(x[1], y[1]) })
	var out [][2]int
	nextA, nextB := 0, 0
	for _, p := range append(increasing(cand), [2]int{len(a), len(b)}) {
		i, j := p[0], p[1]
		if i < nextA || j < nextB {
			continue
		}
		for i > nextA && j > nextB && a[i-1] == b[j-1] {
			i, j = i-1, j-1
		}
		for ; i < len(a) && j < len(b) && a[i] == b[j]; i, j = i+1, j+1 {
			out = append(out, [2]int{i, j})
		}
		nextA, nextB = i, j
	}
	return out
}

// increasing is the longest subsequence of pairs, sorted by the second number,
// in which the first increases, too.
func increasing(list [][2]int) [][2]int {
	var tails []int
	prev := make([]int, len(list))
	for i := range list {
		k := sort.Search(len(tails), func(k int) bool { return list[tails[k]][0] >= list[i][0] })
		prev[i] = -1
		if k > 0 {
			prev[i] = tails[k-1]
		}
		if k == len(tails) {
			tails = append(tails, i)
		} else {
			tails[k] = i
		}
	}
	if len(tails) == 0 {
		return nil
	}
	out := make([][2]int, 0, len(tails))
	for i := tails[len(tails)-1]; i >= 0; i = prev[i] {
		out = append(out, list[i])
	}
	slices.Reverse(out)
	return out
}
