package diff

import (
	"bytes"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
)

// voteByHandlers lets the unwind information of two functions whose bodies are
// equal say which types of the module are which.
func (c *comparer) voteByHandlers(o, n *module.Func) {
	for i := range min(len(o.FDEs), len(n.FDEs)) {
		a, b := c.Old.Handlers(o.FDEs[i]), c.New.Handlers(n.FDEs[i])
		for k := 0; len(a) == len(b) && k < len(a); k++ {
			x, _ := c.Old.RelocAt(a[k])
			y, _ := c.New.RelocAt(b[k])
			if a[k] != 0 && b[k] != 0 && x.Sym == "" && y.Sym == "" {
				c.vote(a[k], b[k], n)
			}
		}
	}
}

// sameExceptions compares the exception tables of two functions whose bodies
// are equal: the same code may catch something else.
func (c *comparer) sameExceptions(o, n *module.Func) bool {
	if len(o.FDEs) != len(n.FDEs) {
		return false
	}
	for i := range o.FDEs {
		a, okA := c.Old.LSDA(o.FDEs[i])
		b, okB := c.New.LSDA(n.FDEs[i])
		if okA != okB || len(a.Sites) != len(b.Sites) || len(a.Types) != len(b.Types) ||
			!bytes.Equal(a.Actions, b.Actions) || !bytes.Equal(a.Specs, b.Specs) {
			return false
		}
		for k := range a.Sites {
			x, y := a.Sites[k], b.Sites[k]
			if x.Action != y.Action || (x.Pad == 0) != (y.Pad == 0) ||
				!c.sameSpot(o, n, x.Start, y.Start) || !c.sameSpot(o, n, x.End, y.End) || !c.sameSpot(o, n, x.Pad, y.Pad) {
				return false
			}
		}
		for k := range a.Types {
			if !c.sameType(a.Types[k], b.Types[k]) {
				return false
			}
		}
	}
	return true
}

// sameSpot reports whether two addresses lead to the same instruction of two
// functions whose bodies are equal.
func (c *comparer) sameSpot(o, n *module.Func, a, b uint64) bool {
	x, y := o.PlaceOf(module.Addr(a)), n.PlaceOf(module.Addr(b))
	if x == y {
		return true
	}
	at := func(m *module.Module, f *module.Func, a module.Addr) int {
		body := c.body(m, f)
		return slices.IndexFunc(body, func(i module.Instr) bool { return i.At >= a })
	}
	return x.Part == y.Part && at(c.Old, o, module.Addr(a)) == at(c.New, n, module.Addr(b))
}

func (c *comparer) sameType(a, b cfi.Pointer) bool {
	if a.Value == 0 || b.Value == 0 {
		return a.Value == b.Value
	}
	x, okX := c.Old.RelocAt(module.Addr(a.Value))
	y, okY := c.New.RelocAt(module.Addr(b.Value))
	if a.Indirect && b.Indirect && okX && okY {
		return c.slotDiffers(x, y) == ""
	}
	return c.differs(module.Addr(a.Value), module.Addr(b.Value), module.RefAddress, 0) == ""
}
