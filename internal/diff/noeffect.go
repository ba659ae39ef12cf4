package diff

import (
	"hotpatch/internal/module"
)

// noteNoEffect remarks that a field is new which only functions that allocate
// an object write, and other changed code reads: no effect on objects that
// exist already. Where the field lies in what was padding, nothing else tells.
// Padding that nobody set to zero may hold anything: then it refuses.
func (c *comparer) noteNoEffect() {
	written := make(map[int64]*module.Func) // by a function that allocates
	elsewhere := make(map[int64]bool)
	read := make(map[int64]*module.Func)
	for i := range c.Changes {
		ch := &c.Changes[i]
		if ch.Old == nil || ch.Old.Opaque || ch.New.Opaque {
			continue
		}
		a, b := c.body(c.Old, ch.Old), c.body(c.New, ch.New)
		used := make(map[int64]bool)
		for k := range a {
			for d := range int64(a[k].MemSize) {
				used[a[k].Disp+d] = used[a[k].Disp+d] || isField(&a[k])
			}
		}
		most := min(c.allocated(c.Old, ch.Old, a), c.allocated(c.New, ch.New, b))
		for k := range b {
			in := &b[k]
			if !isField(in) || in.MemSize == 0 || used[in.Disp] || used[in.Disp+int64(in.MemSize)-1] {
				continue
			}
			switch end := in.Disp + int64(in.MemSize); {
			case !stores(in):
				read[in.Disp] = ch.New
			case end <= most:
				written[in.Disp] = ch.New
			default:
				elsewhere[in.Disp] = true
			}
		}
	}
	for _, d := range sortedKeys(written) {
		f := read[d]
		switch {
		case f == nil || f == written[d] || d < 0 || elsewhere[d]:
		case !c.zeroes(c.toOld[written[d]]):
			c.refuse(DataLayout, f.Name, "reads a field at offset %#x that is new and that %s sets: in objects made before is whatever was in their padding", d, written[d].Name)
		case !c.Typed: // debug information tells more surely
			c.remark(NoEffect, f.Name, "reads a field at offset %#x that only %s writes, which makes the object: objects made before have no value for it", d, written[d].Name)
		}
	}
}

// zeroes reports whether all the allocators that a function calls give memory
// that is zero.
func (c *comparer) zeroes(f *module.Func) bool {
	zero := map[string]bool{"calloc": true, "g_malloc0": true, "g_slice_alloc0": true, "CRYPTO_zalloc": true}
	all := true
	for i := range f.Refs {
		if name := importName(c.Old, f.Refs[i].Target); allocators[name] != nil {
			all = all && zero[name]
		}
	}
	return all
}

// allocated is the largest constant size that a body asks an allocator for; 0 when it does not.
func (c *comparer) allocated(m *module.Module, f *module.Func, body []module.Instr) int64 {
	var most int64
	for i := range body {
		if body[i].ImmLen == 4 && c.allocates(m, f, body, i) {
			most = max(most, body[i].Imm)
		}
	}
	return most
}

// stores reports whether an instruction only writes its memory operand: mov of
// a register or a number, setcc, or a move of a vector register.
func stores(in *module.Instr) bool {
	switch in.Map {
	case 0:
		return in.Opcode&0xfe == 0x88 || in.Opcode&0xfe == 0xc6
	case 1:
		switch in.Opcode {
		case 0x11, 0x13, 0x17, 0x29, 0x7e, 0x7f, 0xd6, 0xe7, 0x2b:
			return !in.Rep || in.Opcode != 0x7e
		}
		return in.Opcode&0xf0 == 0x90
	}
	return false
}
