package module

import (
	"hash/maphash"
	"slices"

	"hotpatch/internal/module/x86"
)

// An Instr is one instruction of a function's body, for comparing bodies.
type Instr struct {
	x86.Inst
	At Addr
	// Key is equal for instructions that are the same but for where a branch
	// or a RIP-relative operand leads; Shape, but for displacement and
	// immediate too.
	Key, Shape uint64
	Ref        int // index into the function's Refs of the first one, or -1
	// DispAddr and ImmAddr are the addresses that displacement and immediate
	// hold, in programs at a fixed address; Disp and Imm are 0 then.
	DispAddr, ImmAddr Addr
}

// RefsOf are the references of one instruction of the function's body.
func (f *Func) RefsOf(in *Instr) []Ref {
	if in.Ref < 0 {
		return nil
	}
	end := in.Ref + 1
	for end < len(f.Refs) && f.Refs[end].At == in.At {
		end++
	}
	return f.Refs[in.Ref:end]
}

var seed = maphash.MakeSeed()

// Body decodes a function, without its NOPs; nil when it is opaque.
func (m *Module) Body(f *Func) []Instr {
	if f.Opaque {
		return nil
	}
	out := make([]Instr, 0, f.Insts)
	ref := 0
	for _, r := range f.Ranges {
		code := m.Bytes(r)
		for o := 0; o < len(code); {
			in, err := x86.Decode(code[o:])
			if err != nil {
				return nil
			}
			if in.Kind != x86.Nop {
				at := r.Start + Addr(o)
				i := Instr{Inst: in, At: at, Ref: -1}
				if ref < len(f.Refs) && f.Refs[ref].At == at {
					i.Ref = ref
				}
				raw := code[o : o+int(in.Len)]
				for ; ref < len(f.Refs) && f.Refs[ref].At == at; ref++ {
					if r := &f.Refs[ref]; r.Absolute {
						raw = slices.Clone(raw)
						clear(raw[r.FieldOff:][:r.FieldLen])
						if r.FieldOff == in.DispOff && in.DispLen > 0 {
							i.Disp, i.DispAddr = 0, r.Target
						} else {
							i.Imm, i.ImmAddr = 0, r.Target
						}
					}
				}
				i.Key, i.Shape = keys(raw, &in)
				out = append(out, i)
			}
			o += int(in.Len)
		}
	}
	return out
}

func keys(raw []byte, in *x86.Inst) (key, shape uint64) {
	var buf [16]byte
	b := buf[:copy(buf[:], raw)]
	if in.Kind == x86.Jmp || in.Kind == x86.Jcc {
		// The width of a branch says nothing: opcode 7x is 0f 8x.
		op := b[in.DispOff-1] & 0x0f
		if in.Kind == x86.Jmp {
			op = 0x40
		}
		k := maphash.Bytes(seed, []byte{0x0f, 0x04, op})
		return k, k
	}
	if in.Relative() {
		clear(b[in.DispOff : in.DispOff+in.DispLen])
	}
	key = maphash.Bytes(seed, b)
	clear(b[in.DispOff : in.DispOff+in.DispLen])
	clear(b[in.ImmOff : in.ImmOff+in.ImmLen])
	// Displacements of no, 8 and 32 bits differ in mod only.
	at := in.Len - in.ImmLen - in.DispLen - 1 // of ModRM
	based := true
	if in.HasSIB {
		at--
		based = in.ModRM>>6 != 0 || in.SIB&7 != 5
	}
	if in.HasModRM && in.ModRM>>6 != 3 && based && !in.RIP {
		b[at] = b[at]&0x3f | 0x40
		if in.DispLen > 0 {
			b = append(b[:in.DispOff], b[in.DispOff+in.DispLen:]...)
		}
	}
	return key, maphash.Bytes(seed, b)
}
