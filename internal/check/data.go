package check

import (
	"bytes"
	"debug/elf"
	"maps"
	"slices"
	"sort"
)

// dataMap says where the baseline keeps the writable data of the fixed build.
type dataMap struct {
	c       *checker
	anchors []uint64            // of the fixed build, that unchanged code uses
	at      map[uint64]uint64   // their counterparts
	split   map[uint64][]uint64 // addresses of which unchanged code disagrees
	equal   map[uint64]bool     // whether what lies behind an anchor, up to the next, is the same in both
	even    map[string]bool     // whether all of a section moved by the same distance
}

// mapData lets names and the references of unchanged code say which data is which.
func (c *checker) mapData() dataMap {
	votes := make(map[uint64]map[uint64]int)
	vote := func(o, n uint64, weight int) {
		so, sn := c.old.section(o), c.fixed.section(n)
		if so == nil || sn == nil || so.name != sn.name || sn.exec {
			return
		}
		if votes[n] == nil {
			votes[n] = make(map[uint64]int)
		}
		votes[n][o] += weight
	}
	for n, o := range c.pairs.old {
		if n.hash != o.hash || c.in[n] != nil || n.gap || c.pairs.by[n] == byPlace {
			continue
		}
		for i := range n.refs {
			vote(o.refs[i].target, n.refs[i].target, 1)
		}
	}
	for key, n := range c.fixed.exports {
		if o, ok := c.old.exports[key]; ok && elf.ST_TYPE(n.Info) == elf.STT_OBJECT {
			vote(o.Value, n.Value, 1000)
		}
	}
	if c.classes == nil {
		c.classes = []map[string]uint64{c.old.classes(), c.fixed.classes()}
	}
	for name, n := range c.classes[1] {
		if o := c.classes[0][name]; o != 0 && n != 0 {
			vote(o, n, 1000)
		}
	}
	if c.data.c != nil {
		c.pointers(func(o, n *reloc) {
			a, okA := o.leads()
			b, okB := n.leads()
			if okA && okB {
				vote(a, b, 1)
			}
		})
	}
	d := dataMap{c: c, at: make(map[uint64]uint64), split: make(map[uint64][]uint64), equal: make(map[uint64]bool), even: make(map[string]bool)}
	for n, list := range votes {
		best, sum := uint64(0), 0
		for o, k := range list {
			if sum += k; k > list[best] || k == list[best] && o < best {
				best = o
			}
		}
		if len(list) > 1 && list[best]*3 < sum*2 {
			d.split[n] = slices.Sorted(maps.Keys(list))
			continue
		}
		d.at[n] = best
	}
	d.anchors = slices.Sorted(maps.Keys(d.at))
	return d
}

// place is what is known of where the baseline has an address of data.
type place struct {
	addr  uint64
	sure  bool
	fresh bool     // the baseline certainly has no such object
	ends  []uint64 // what it also is: the end of an object that lies before it
	near  []uint64 // where it would be if it kept its distance to a neighbour
	why   string
}

// old is where the baseline keeps what the fixed build keeps at w, if that is sure.
func (d *dataMap) old(w uint64) (uint64, bool) {
	if d.c == nil {
		return 0, false
	}
	p := d.find(w)
	return p.addr, p.sure
}

func (d *dataMap) find(w uint64) place {
	p := d.named(w)
	if p.sure || p.fresh {
		return p
	}
	if o, ok := d.at[w]; ok {
		p.addr, p.sure, p.why = o, true, "unchanged code uses it"
		return p
	}
	d.between(w, &p)
	return p
}

// named looks for the object that holds w by its name.
func (d *dataMap) named(w uint64) place {
	p := place{why: "no name and no unchanged code says where it is"}
	o, n := d.c.old, d.c.fixed
	both := o.named && n.named
	known := false
	for _, x := range n.objectsAt(w) {
		i, ok := o.byKey[x.key]
		switch {
		case x.weak:
		case ok && w-x.start < o.objects[i].end-o.objects[i].start:
			p.addr, p.sure, p.why = o.objects[i].start+(w-x.start), true, "by name"
			known = true
		case ok:
			known = true
		case both && !known:
			p.fresh, p.why = true, "the baseline has no "+x.key
		}
	}
	p.fresh = p.fresh && !known
	for _, key := range n.labels[w] {
		for a, keys := range o.labels {
			if slices.Contains(keys, key) {
				p.ends = append(p.ends, a)
			}
		}
	}
	i := sort.Search(len(n.objects), func(i int) bool { return n.objects[i].start >= w })
	for i--; i >= 0; i-- {
		x := &n.objects[i]
		k, ok := o.byKey[x.key]
		if x.end == w && ok && o.objects[k].end-o.objects[k].start == x.end-x.start {
			p.ends = append(p.ends, o.objects[k].end)
		}
		if x.end < w {
			break
		}
	}
	return p
}

// between looks at the nearest addresses on both sides that unchanged code
// uses. Where they moved by the same distance, what lies between them did too.
func (d *dataMap) between(w uint64, p *place) {
	s := d.c.fixed.section(w)
	if s == nil {
		return
	}
	so := d.c.old.sectionNamed(s.name)
	i := sort.Search(len(d.anchors), func(i int) bool { return d.anchors[i] > w })
	lo, hi := s.start, s.end
	var olo, ohi uint64
	okLo, okHi := false, false
	if i > 0 && d.anchors[i-1] >= s.start {
		lo, okLo = d.anchors[i-1], true
		olo = d.at[lo]
	}
	if i < len(d.anchors) && d.anchors[i] < s.end {
		hi, okHi = d.anchors[i], true
		ohi = d.at[hi]
	}
	// Copied objects lie in the order of a hash of their names, so that nothing
	// keeps its distance to one of them.
	start, end, oend := s.copies[0], s.copies[1], uint64(0)
	if so != nil {
		oend = so.copies[1]
	}
	switch {
	case end == 0 && oend == 0:
	case w < end:
		okHi = okHi && hi < start
	case lo < end:
		lo, olo, okLo = end, oend, oend != 0
	case end == 0:
		okLo = okLo && olo >= oend
	}
	if so != nil && end == 0 && oend == 0 && (!okLo || !okHi) && d.steady(s, so) {
		if !okLo {
			olo, okLo = so.start, true
		}
		if !okHi {
			ohi, okHi = so.end, true
		}
	}
	if so != nil {
		p.near = append(p.near, so.start+(w-s.start), so.end-(s.end-w))
	}
	if okLo {
		p.near = append(p.near, olo+(w-lo))
	}
	if okHi {
		p.near = append(p.near, ohi-(hi-w))
	}
	if okLo && okHi && ohi-olo == hi-lo && (s.nobits || d.same(olo, lo, hi-lo)) {
		p.addr, p.sure, p.why = olo+(w-lo), true, "what lies around it keeps its distance"
	}
}

// steady reports whether a section has the same size in both builds and all
// that unchanged code uses of it moved by the same distance.
func (d *dataMap) steady(s, so *section) bool {
	if e, ok := d.even[s.name]; ok {
		return e
	}
	even := so.end-so.start == s.end-s.start
	for i := sort.Search(len(d.anchors), func(i int) bool { return d.anchors[i] >= s.start }); i < len(d.anchors) && d.anchors[i] < s.end; i++ {
		even = even && d.anchors[i]-s.start == d.at[d.anchors[i]]-so.start
	}
	d.even[s.name] = even
	return even
}

// same compares what the files have in a stretch of data, pointers apart, and
// that pointers are at the same places.
func (d *dataMap) same(o, n, size uint64) bool {
	if e, ok := d.equal[n]; ok {
		return e
	}
	a, b := bytes.Clone(d.c.old.bytes(o, size)), bytes.Clone(d.c.fixed.bytes(n, size))
	ro, rn := d.c.old.relocsIn(o, o+size), d.c.fixed.relocsIn(n, n+size)
	ok := a != nil && b != nil && len(ro) == len(rn)
	for i := 0; ok && i < len(ro); i++ {
		x, y := &ro[i], &rn[i]
		ok = x.at-o == y.at-n && x.typ == y.typ && x.sym == y.sym && x.version == y.version
		for k := x.at - o; ok && k < min(x.at-o+8, size); k++ {
			a[k], b[k] = 0, 0
		}
	}
	d.equal[n] = ok && bytes.Equal(a, b)
	return d.equal[n]
}
