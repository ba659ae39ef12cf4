package diff

import (
	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// judgeTables refuses when a jump table seems shorter than the largest index
// that the code before its use lets through (cmp $index; ja).
func (c *comparer) judgeTables(n *module.Func) {
	const reach = 24 // instructions between the comparison and the table's address
	body := c.body(c.New, n)
	for _, t := range n.Tables {
		for i := range body {
			if r := body[i].Ref; r < 0 || n.Refs[r].Target != t.Addr {
				continue
			}
			for k := i - 1; k > 0 && k > i-reach; k-- {
				above := body[k].Kind == x86.Jcc && (body[k].Map == 0 && body[k].Opcode == 0x77 || body[k].Map == 1 && body[k].Opcode == 0x87)
				cmp := &body[k-1]
				if !above || !comparesNumber(cmp) {
					continue
				}
				if most, ok := largestIndex(body, i, k-1); ok && most >= int64(len(t.Targets)) {
					c.refuse(IndirectJump, n.Name, "the jump table at %v has %d entries, %d are asked for", t.Addr, len(t.Targets), most+1)
				}
				break
			}
		}
	}
}

// comparesNumber reports whether an instruction is cmp $number.
func comparesNumber(in *module.Instr) bool {
	return in.Map == 0 && in.ImmLen > 0 && (in.Opcode == 0x3c || in.Opcode == 0x3d ||
		in.Opcode >= 0x80 && in.Opcode <= 0x83 && in.ModRM>>3&7 == 7)
}

// compareWith is the number that cmp $number compares with as ja does, without
// sign: of a byte, 0x80 and up are no negative numbers.
func compareWith(in *module.Instr) int64 {
	if in.Opcode == 0x3c || in.Opcode == 0x80 {
		return int64(uint8(in.Imm))
	}
	return in.Imm
}

// largestIndex is the largest index into the table whose address instruction
// use takes that the comparison at cmp lets through: not ok when what is
// compared has nothing to do with the index. Between the two the index may have
// been copied and shifted right.
func largestIndex(body []module.Instr, use, cmp int) (most int64, ok bool) {
	const near = 8 // instructions from the table's address to the load of its offset
	load := use
	for load < len(body) && load < use+near && !(body[load].Map == 0 && body[load].Opcode == 0x63 && body[load].HasSIB && body[load].SIB>>6 == 2) {
		load++
	}
	in := &body[cmp]
	memory := in.Opcode != 0x3c && in.Opcode != 0x3d && in.ModRM>>6 != 3
	if load == len(body) || load == use+near || memory {
		return compareWith(in), true // nothing is known of the index
	}
	compared := byte(0) // rax
	if in.Opcode != 0x3c && in.Opcode != 0x3d {
		compared = in.ModRM&7 | in.REX&1<<3
	}
	index, shift := body[load].SIB>>3&7|body[load].REX&2<<2, int64(0)
	const before = 16 // instructions in front of the comparison
	for k := load - 1; k >= 0 && k > cmp-before; k-- {
		if k <= cmp && index == compared {
			return compareWith(in) >> shift, true
		}
		p := &body[k]
		rm, reg := p.ModRM&7|p.REX&1<<3, p.ModRM>>3&7|p.REX&4<<1
		switch direct := p.HasModRM && p.ModRM>>6 == 3; {
		case k == cmp:
		case p.Map == 0 && p.Opcode == 0xc1 && direct && rm == index && (p.ModRM>>3&7 == 5 || p.ModRM>>3&7 == 7): // shr, sar
			shift += p.Imm
		case p.Map == 0 && p.Opcode == 0x89 && direct && rm == index:
			index = reg
		case p.Map == 0 && (p.Opcode == 0x8b || p.Opcode == 0x63) && direct && reg == index,
			p.Map == 1 && (p.Opcode == 0xb6 || p.Opcode == 0xb7) && direct && reg == index: // movzx
			index = rm
		}
	}
	return 0, false
}
