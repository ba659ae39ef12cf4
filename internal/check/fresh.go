package check

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"hotpatch/internal/patch"
)

// freshObject is a variable that only the fixed build has.
type freshObject struct {
	want, end uint64 // in the fixed build
	got       uint64 // in the process
}

// freshVariable answers for a variable that the overlay has, or a constant that
// the loader would have relocated.
func (c *checker) freshVariable(q *question, s *section, w *place) outcome {
	p := c.pieceAt(q.got)
	prot := patch.ReadWrite
	if s.relro {
		prot = patch.ReadOnly
	}
	switch {
	case p == nil:
		return bad(Variable, "leads to %#x, outside everything", q.got)
	case w.sure:
		return bad(Variable, "leads to a second copy at %#x of what the baseline has at %#x: %s", q.got-overlayBias, w.addr, w.why)
	case p.prot != prot:
		return bad(Variable, "leads to %#x of the overlay, where the protection is another one", q.got-overlayBias)
	case (q.got-q.want)%min(s.align, 64) != 0:
		return bad(Variable, "%#x of the overlay is not aligned as %#x", q.got-overlayBias, q.want)
	}
	if want, ok := c.variableAt(q.got); !ok || want != q.want {
		return bad(Variable, "leads to %#x of the overlay, which the patch does not list as what is new at %#x", q.got-overlayBias, q.want)
	}
	c.escapes[1] = true
	f := freshObject{q.want, c.fixed.next(q.want), q.got}
	if _, _, ok := c.fixed.vtable(f.end); ok {
		f.end -= 16 // the head of the next one
	}
	for _, x := range c.fixed.objectsAt(q.want) {
		f.want, f.end = min(f.want, x.start), max(f.end, x.end)
	}
	if _, _, ok := c.fixed.vtable(f.want); ok {
		f.want -= 16 // its head
	}
	f.got -= q.want - f.want
	if !slices.Contains(c.fresh, f) {
		c.fresh = append(c.fresh, f)
		c.initial(&f, s)
	}
	if !w.fresh {
		return unsure(Variable, "leads to a variable at %#x of the overlay that seems to be new", q.got-overlayBias)
	}
	return outcome{}
}

// variableAt is what, in the fixed build, the patch says of a new variable's place.
func (c *checker) variableAt(got uint64) (want uint64, ok bool) {
	for _, v := range c.patch.Variables {
		if off := got - overlayBias - uint64(v.At); off < v.Fixed.Len() {
			return uint64(v.Fixed.Start) + off, true
		}
	}
	return 0, false
}

// initial holds the initial value of a new variable against the fixed build's.
func (c *checker) initial(f *freshObject, s *section) {
	size := f.end - f.want
	got := c.overlay(f.got, size)
	if got == nil {
		c.fault(Variable, "the new variable at %#x is not all in the overlay", f.want)
		return
	}
	want := make([]byte, size)
	if !s.nobits {
		copy(want, c.fixed.bytes(f.want, size))
	}
	have := bytes.Clone(got)
	for _, r := range c.fixed.relocsIn(f.want, f.end) {
		k := r.at - f.want
		if k+8 > size {
			continue
		}
		c.settle(c.newSlot(&r, &question{r.at, f.got + k, address, 0, nil, false}))
		binary.LittleEndian.PutUint64(want[k:], 0)
		binary.LittleEndian.PutUint64(have[k:], 0)
	}
	if !bytes.Equal(want, have) {
		c.fault(Variable, "the new variable at %#x starts as % x, not % x", f.want, have[:min(16, size)], want[:min(16, size)])
	}
}

// freshData makes sure that each new variable has one place, of its own, and
// looks at what nothing refers to in the stretches that the patch has.
func (c *checker) freshData() {
	for _, v := range c.patch.Variables {
		c.at("new variables", uint64(v.Fixed.Start))
		if s := c.fixed.section(uint64(v.Fixed.Start)); s == nil || uint64(v.Fixed.End) > s.end || v.Fixed.End < v.Fixed.Start {
			c.fault(Variable, "the stretch up to %v is no data", v.Fixed.End)
		} else {
			c.initial(&freshObject{uint64(v.Fixed.Start), uint64(v.Fixed.End), uint64(v.At) + overlayBias}, s)
		}
	}
	c.at("new variables", 0)
	byPlace := func(a, b freshObject) int { return cmp.Compare(a.got, b.got) }
	slices.SortFunc(c.fresh, byPlace)
	for i := range c.fresh {
		for k := range i {
			a, b := &c.fresh[k], &c.fresh[i]
			inOne := a.want < b.end && b.want < a.end
			c.where = b.want
			switch {
			case a.got-a.want == b.got-b.want:
			case inOne:
				c.fault(Variable, "it has two places in the overlay")
			case a.got < b.got+(b.end-b.want) && b.got < a.got+(a.end-a.want):
				c.fault(Variable, "its place in the overlay is that of the one at %#x, too", a.want)
			}
		}
	}
}
