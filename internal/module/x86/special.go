package x86

// special does what the entry alone cannot say.
func (d *decoder) special() error {
	in := &d.in
	ok := true
	switch {
	case in.Map == 0 && in.Opcode&0xf8 == 0xd8:
		ok = d.x87()
	case in.Map == 0:
		ok = d.specialOne()
	case in.Map == 1:
		ok = d.special0F()
	case in.Map == 2 && d.pp == 2: // F3 0F 38 DC to DF: key locker
		in.MemSize = 64
		ok = in.ModRM < 0xc0 || in.Opcode == 0xdc
	}
	if in.ModRM >= 0xc0 || !in.HasModRM {
		in.MemSize = 0
	}
	if !ok {
		return ErrInvalid
	}
	return nil
}

func (d *decoder) x87() bool {
	in := &d.in
	i := in.Opcode&7<<3 | in.ModRM>>3&7
	if in.ModRM >= 0xc0 {
		return x87Reg[i]>>(in.ModRM&7)&1 != 0
	}
	in.MemSize = x87Mem[i]
	return in.MemSize != none
}

func (d *decoder) specialOne() bool {
	in := &d.in
	reg, mem := in.ModRM>>3&7, in.ModRM < 0xc0
	switch in.Opcode {
	case 0x90: // xchg with r8, or pause
		if in.REX&1 == 0 && !in.Rep {
			in.Kind = Nop
		}
	case 0xc6: // xabort
		return reg == 0 || in.ModRM == 0xf8
	case 0xc7:
		if in.ModRM == 0xf8 { // xbegin
			in.Kind = Jcc
			in.DispOff, in.DispLen, in.Disp = in.ImmOff, in.ImmLen, in.Imm
			in.ImmOff, in.ImmLen, in.Imm = 0, 0, 0
			return true
		}
		return reg == 0
	case 0xff:
		switch reg {
		case 2, 4:
			in.MemSize = 8
		case 3, 5:
			in.MemSize = 10
		case 6:
			in.MemSize = 8
		}
		switch reg {
		case 2, 3:
			in.Kind = CallInd
		case 4, 5:
			in.Kind = JmpInd
		}
		return mem || reg != 3 && reg != 5
	}
	return true
}

func (d *decoder) special0F() bool {
	in := &d.in
	reg, mem := in.ModRM>>3&7, in.ModRM < 0xc0
	switch in.Opcode {
	case 0x01:
		switch {
		case mem && reg < 4:
			in.MemSize = 10
		case mem && reg == 5:
			in.MemSize = 8
			return d.pp == 2
		case mem && reg != 7:
			in.MemSize = 2
		case in.ModRM == 0xec && d.pp == 2: // uiret
			in.Kind = Ret
		}
	case 0x0f:
		return amd3D[uint8(in.Imm)>>6]>>(uint8(in.Imm)&63)&1 != 0
	case 0x18, 0x1a, 0x1b, 0x1c, 0x1e:
		d.hint(reg, mem)
	case 0x73: // psrldq, pslldq
		return d.pp == 1 || reg&1 == 0
	case 0x78, 0x79: // extrq, insertq; without a prefix vmread, vmwrite
		return d.pp == 0 || !mem && (d.pp == 3 || in.Opcode == 0x79 || reg == 0)
	case 0xae:
		switch {
		case mem && (reg == 2 || reg == 3):
			in.MemSize = 4
		case mem && d.pp == 2 && reg == 6: // clrssbsy
			in.MemSize = 8
		case !mem && reg < 5: // rdfsbase to ptwrite
			return d.pp == 2
		}
	case 0xc7:
		switch {
		case mem && reg == 1 && d.wide():
			in.MemSize = 16
		case mem && (reg == 1 || reg > 5):
			in.MemSize = 8
		default:
			return mem || reg > 5
		}
	}
	return true
}

// hint tells the nops among 0F 18 to 0F 1E from what uses their room:
// prefetches, MPX, cldemote, rdssp, endbr64.
func (d *decoder) hint(reg uint8, mem bool) {
	in := &d.in
	var nop bool
	switch in.Opcode {
	case 0x18: // prefetchit0 and prefetchit1 are RIP-relative
		nop = !mem || reg > 3 && (reg < 6 || !in.RIP || d.pp != 0)
	case 0x1a:
		nop = !mem && d.pp == 0
	case 0x1b:
		nop = !mem && (d.pp == 0 || d.pp == 2)
	case 0x1c:
		nop = !mem || reg != 0 || d.pp != 0
	case 0x1e:
		nop = d.pp != 2 || mem || reg != 1 && in.ModRM != 0xfa && in.ModRM != 0xfb
		if d.pp == 2 && in.ModRM == 0xfa {
			in.Kind = Endbr
		}
	}
	if nop {
		in.Kind = Nop
	}
}
