package x86

// Decode decodes the instruction that code begins with. Bytes behind it do
// not matter. It fails with ErrTruncated when code ends too early and with
// ErrInvalid when the bytes are no instruction in 64-bit mode, or one of APX.
// What depends on the vendor is as on Intel: 66 does not shorten rel32.
func Decode(code []byte) (Inst, error) {
	d := decoder{code: code, vl: 16}
	if len(code) > 15 { // SDM volume 2, 2.3.11: longer ones fault
		d.code = code[:15]
	}
	err := d.opcode()
	if err == nil {
		err = d.operands()
	}
	if err != nil {
		if err == ErrTruncated && len(code) >= 15 {
			err = ErrInvalid
		}
		return Inst{}, err
	}
	d.in.Len = d.pos
	return d.in, nil
}

type decoder struct {
	in    Inst
	code  []byte
	entry entry
	pos   uint8
	pp    uint8 // the mandatory prefix: 0 none, 1 66, 2 F3, 3 F2, as in VEX
	vl    uint8 // vector length in bytes
	bcast bool  // EVEX.b
}

func (d *decoder) wide() bool { return d.in.REX&8 != 0 }

// opcode reads all up to the opcode and finds its entry.
func (d *decoder) opcode() error {
	for {
		if int(d.pos) >= len(d.code) {
			return ErrTruncated
		}
		b := d.code[d.pos]
		d.pos++
		e := oneByte[b]
		if e&prefix == 0 {
			if b == 0x8f && int(d.pos) < len(d.code) && d.code[d.pos]&0x1f >= 8 {
				return d.vex(b)
			}
			d.in.Opcode, d.entry = b, e
			break
		}
		if b&0xf0 == 0x40 {
			d.in.REX = b
			continue
		}
		switch b {
		case 0x0f:
			return d.escape()
		case 0xc4, 0xc5, 0x62:
			return d.vex(b)
		}
		d.in.REX = 0 // only in force right before the opcode
		d.legacyPrefix(b)
	}
	return d.allowed(pN)
}

func (d *decoder) legacyPrefix(b byte) {
	switch b {
	case 0x66:
		d.in.Data16 = true
		if d.pp == 0 {
			d.pp = 1
		}
	case 0x67:
		d.in.Addr32 = true
	case 0xf3:
		d.in.Rep = true
		d.pp = 2
	case 0xf2:
		d.in.Repne = true
		d.pp = 3
	case 0xf0:
		d.in.Lock = true
	case 0x64, 0x65: // cs, ds, es and ss are ignored
		d.in.Seg = b
	}
}

// escape reads the opcode behind 0F.
func (d *decoder) escape() error {
	b, ok := d.next()
	if !ok {
		return ErrTruncated
	}
	d.in.Map, d.entry = 1, map0F[b]
	if b == 0x38 || b == 0x3a {
		m := b
		if b, ok = d.next(); !ok {
			return ErrTruncated
		}
		if m == 0x38 {
			d.in.Map, d.entry = 2, map38[b]
		} else {
			d.in.Map, d.entry = 3, map3A[b]
		}
	}
	d.in.Opcode = b
	return d.allowed(pN)
}

// vex reads what begins with C4, C5, 62 or, for XOP, 8F.
func (d *decoder) vex(b byte) error {
	in := &d.in
	n := 3 // bytes up to the opcode: of C4 and XOP, C5, 62
	switch b {
	case 0xc5:
		n = 2
	case 0x62:
		n = 4
	}
	if in.Data16 || in.Rep || in.Repne || in.Lock || in.REX != 0 {
		return ErrInvalid
	}
	if int(d.pos)+n > len(d.code) {
		return ErrTruncated
	}
	p := d.code[d.pos:]
	d.pos += uint8(n)
	in.VEX, in.Opcode = true, p[n-1]
	last := p[0] // the byte with pp
	if n == 2 {
		in.Map, in.REX = 1, 0x40|^p[0]>>5&4
	} else {
		last = p[1]
		in.Map, in.REX = p[0]&0x1f, 0x40|p[1]>>4&8|^p[0]>>5&7
	}
	d.pp = last & 3
	if last&4 != 0 {
		d.vl = 32
	}
	if b != 0x62 {
		d.entry = vexEntry(b, in.Map, in.Opcode)
		return d.allowed(pN)
	}
	if p[0]&8 != 0 || p[1]&4 == 0 { // APX
		return ErrInvalid
	}
	in.EVEX, in.Map = true, p[0]&7
	d.vl, d.bcast = 16<<(p[2]>>5&3), p[2]&0x10 != 0
	d.entry = evexEntry(in.Map, in.Opcode)
	return d.allowed(eN)
}

func vexEntry(lead, m, op byte) entry {
	switch {
	case lead != 0x8f && m == 1:
		return vec0F[op]
	case lead != 0x8f && m == 2:
		return vec38[op]
	case lead != 0x8f && m == 3:
		return vec3A[op]
	case lead == 0x8f && m == 8:
		return xop8[op]
	case lead == 0x8f && m == 9:
		return xop9[op]
	case lead == 0x8f && m == 10:
		return xopA[op]
	}
	return 0
}

func evexEntry(m, op byte) entry {
	switch m {
	case 1:
		return vec0F[op]
	case 2:
		return vec38[op]
	case 3:
		return vec3A[op]
	case 5:
		return vec5[op]
	case 6:
		return vec6[op]
	}
	return 0
}

// allowed refuses an opcode that does not exist with its mandatory prefix;
// first is the bit of the entry that stands for none.
func (d *decoder) allowed(first entry) error {
	if d.entry&(first<<d.pp) == 0 {
		return ErrInvalid
	}
	if d.in.VEX {
		d.entry &^= kindMask // those bits told of EVEX
	}
	return nil
}

func (d *decoder) next() (byte, bool) {
	if int(d.pos) >= len(d.code) {
		return 0, false
	}
	b := d.code[d.pos]
	d.pos++
	return b, true
}

// operands reads what follows the opcode.
func (d *decoder) operands() error {
	e := d.entry
	d.in.Kind = e.kind()
	if e&modrm != 0 {
		if err := d.modrm(); err != nil {
			return err
		}
	}
	if e&immMask != iNone {
		if err := d.immediate(); err != nil {
			return err
		}
	}
	if e&special != 0 {
		return d.special()
	}
	return nil
}

// modrm reads ModRM, SIB and displacement (SDM volume 2, 2.1.5).
func (d *decoder) modrm() error {
	in, e := &d.in, d.entry
	b, ok := d.next()
	if !ok {
		return ErrTruncated
	}
	in.HasModRM, in.ModRM = true, b
	if e>>badShift>>(b>>3&7)&1 != 0 {
		return ErrInvalid
	}
	mod, rm := b>>6, b&7
	if mod == 3 {
		if e&memOnly != 0 || in.EVEX && d.vl == 128 && !d.bcast {
			return ErrInvalid
		}
		return nil
	}
	if e&regOnly != 0 || d.vl == 128 {
		return ErrInvalid
	}
	if rm == 4 {
		if in.SIB, ok = d.next(); !ok {
			return ErrTruncated
		}
		in.HasSIB = true
		rm = in.SIB & 7
	}
	in.MemSize = d.memSize()
	switch {
	case mod == 1:
		in.DispLen = 1
	case mod == 2:
		in.DispLen = 4
	case rm == 5:
		in.DispLen = 4
		in.RIP = !in.HasSIB
	default:
		return nil
	}
	in.DispOff = d.pos
	in.Disp, ok = d.number(in.DispLen)
	if !ok {
		return ErrTruncated
	}
	return nil
}

// memSize is Inst.MemSize of an operand given by ModRM or a moffs.
func (d *decoder) memSize() uint8 {
	wide := d.wide()
	y := uint8(4)
	if wide {
		y = 8
	}
	if d.in.EVEX && d.bcast {
		return y
	}
	switch c := d.entry & (memMask << memShift); c {
	case 0:
		return 0
	case s1, s2, s4, s8, s16, s32, s64:
		return 1 << (c>>memShift - 1)
	case sV:
		if d.in.Data16 && !wide {
			return 2
		}
		return y
	case sY:
		return y
	case sMM:
		if d.pp == 0 {
			return 8
		}
		return 16
	default:
		return d.vectorSize(c, y)
	}
}

// vectorSize is memSize for operands that depend on mandatory prefix and
// vector length; y is 8 under W, else 4.
func (d *decoder) vectorSize(c entry, y uint8) uint8 {
	vl, pp := d.vl, d.pp
	switch {
	case c == sX2, c == sCvtF && pp == 0, c == sCvtD && pp == 2 && y == 4:
		return vl / 2
	case c == sX4:
		return vl / 4
	case c == sX8:
		return vl / 8
	case c == sPH && pp == 2:
		return 2
	case (c == sPS || c == sCvtF) && pp == 2:
		return 4
	case (c == sPS || c == sCvtF) && pp == 3:
		return 8
	case c == sS:
		return 4 << pp
	case c == sDup && (pp < 2 || pp == 3 && vl == 16), c == sMovd && pp == 2:
		return 8
	case c == sMovd && pp == 3:
		return 16
	case c == sCvtI && pp >= 2, c == sMovd:
		return y
	}
	return vl
}

// number reads n bytes as a signed little-endian number.
func (d *decoder) number(n uint8) (int64, bool) {
	if int(d.pos)+int(n) > len(d.code) {
		return 0, false
	}
	p := d.code[d.pos:]
	d.pos += n
	switch n {
	case 1:
		return int64(int8(p[0])), true
	case 4:
		return int64(int32(uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24)), true
	}
	var v uint64
	for i := range n {
		v |= uint64(p[i]) << (8 * i)
	}
	shift := 64 - 8*n
	return int64(v<<shift) >> shift, true
}

// immediate reads the immediate, or the displacement of a branch or a moffs.
func (d *decoder) immediate() error {
	in := &d.in
	size := uint8(4)
	if in.Data16 && !d.wide() {
		size = 2
	}
	disp := false
	switch d.entry & immMask {
	case iB:
		size = 1
	case iW:
		size = 2
	case iBW:
		size = 3
	case iD, iZ:
		if d.entry&immMask == iD {
			size = 4
		}
	case iV:
		if d.wide() {
			size = 8
		}
	case iA:
		size, disp = 8, true
		if in.Addr32 {
			size = 4
		}
		in.MemSize = d.memSize()
	case iJ1:
		size, disp = 1, true
	case iJ4:
		size, disp = 4, true
	case iTestB, iTestZ:
		if in.ModRM>>3&7 > 1 {
			return nil
		}
		if d.entry&immMask == iTestB {
			size = 1
		}
	case iBB:
		if d.pp == 0 {
			return nil
		}
		size = 2
	}
	off := d.pos
	v, ok := d.number(size)
	if !ok {
		return ErrTruncated
	}
	if disp {
		in.DispOff, in.DispLen, in.Disp = off, size, v
	} else {
		in.ImmOff, in.ImmLen, in.Imm = off, size, v
	}
	return nil
}
