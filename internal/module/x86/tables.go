package x86

// entry says what follows an opcode, and what it means, in 32 bits:
//
//	0-3    how the immediate, or the displacement of a branch, is sized
//	4-8    the size of the memory operand
//	9      a ModRM byte follows
//	10, 11 it must, or must not, have mod 11
//	12-15  mandatory prefixes (none, 66, F3, F2) it exists with; none at all: not an opcode
//	16-19  its Kind; in the maps of VEX and EVEX the prefixes it exists with under EVEX
//	20-27  values of ModRM.reg that are no instruction
//	28     special has more to say
//	29     a prefix or an escape
//
// Sources: Intel SDM volume 2 appendix A, AMD APM volume 3 appendix A.
type entry uint32

// How an immediate is sized.
const (
	iNone  entry = iota
	iB           // 1 byte
	iW           // 2 bytes
	iBW          // enter: 2 bytes and 1
	iD           // 4 bytes
	iZ           // 4 bytes, 2 under 66
	iV           // 4 bytes, 2 under 66, 8 under REX.W
	iA           // an absolute address: 8 bytes, 4 under 67
	iJ1          // a displacement of 1 byte
	iJ4          // a displacement of 4 bytes, also under 66 (Intel)
	iTestB       // 1 byte for /0 and /1
	iTestZ       // as iZ for /0 and /1
	iBB          // 2 bytes of 1, but none without a mandatory prefix

	immMask = 1<<4 - 1
)

// How large the memory operand is. VL is the vector length: 16, 32 or 64.
const (
	s1    entry = iota<<4 + 1<<4 // 1 byte
	s2                           // 2 bytes
	s4                           // and so on
	s8                           //
	s16                          //
	s32                          //
	s64                          //
	sV                           // the operand size: 2 under 66, 8 under REX.W, else 4
	sY                           // 8 under W, else 4
	sMM                          // 8 without a mandatory prefix, else 16
	sX                           // VL
	sX2                          // VL/2
	sX4                          // VL/4
	sX8                          // VL/8
	sPS                          // VL; scalar 4 under F3, 8 under F2
	sPH                          // VL; scalar 2 under F3
	sS                           // 4, 8 under 66
	sDup                         // movlps, movlpd 8; movsldup VL; movddup 8, VL from 32 on
	sCvtI                        // VL; sY under F3 and F2
	sCvtF                        // VL/2; VL under 66; 4 under F3; 8 under F2
	sCvtD                        // VL; VL/2 under F3 unless W
	sMovd                        // sY; 8 under F3; 16 under F2

	memShift = 4
	memMask  = 1<<5 - 1
)

const (
	modrm   entry = 1 << 9
	memOnly entry = 1 << 10
	regOnly entry = 1 << 11

	pN entry = 1 << 12 // no mandatory prefix
	p6 entry = 1 << 13 // 66
	p3 entry = 1 << 14 // F3
	p2 entry = 1 << 15 // F2
	pA       = pN | p6 | p3 | p2

	kindShift       = 16
	kindMask  entry = 15 << kindShift
	evexShift       = 4 // from the prefixes above to those of EVEX
	eN              = pN << evexShift
	e6              = p6 << evexShift
	e3              = p3 << evexShift
	e2              = p2 << evexShift
	eAny            = pA << evexShift
	b6              = p6 | e6
	bN6             = pN | p6 | eN | e6
	bAny            = pA | eAny

	badShift       = 20
	special  entry = 1 << 28
	prefix   entry = 1 << 29
)

// kind is what an entry of a legacy map does to the flow of control.
func (e entry) kind() Kind { return Kind(e >> kindShift & 15) }

const (
	kCall = entry(Call) << kindShift
	kJmp  = entry(Jmp) << kindShift
	kJcc  = entry(Jcc) << kindShift
	kRet  = entry(Ret) << kindShift
	kInt3 = entry(Int3) << kindShift
	kTrap = entry(Trap) << kindShift
	kSys  = entry(Syscall) << kindShift
	kNop  = entry(Nop) << kindShift
)

// only names the values of ModRM.reg that exist, one bit each.
const (
	only0    entry = 0xfe << badShift
	only01   entry = 0xfc << badShift
	only0to6 entry = 0x80 << badShift
	only0to5 entry = 0xc0 << badShift
	only0to2 entry = 0xf8 << badShift
	only0to3 entry = 0xf0 << badShift
	only1to3 entry = 0xf1 << badShift
	only1to7 entry = 0x01 << badShift
	only16   entry = 0xbd << badShift
	only1256 entry = 0x99 << badShift
	only23   entry = 0xf3 << badShift
	only246  entry = 0xab << badShift
	only0126 entry = 0xa8 << badShift
	only2367 entry = 0x33 << badShift
	only4to7 entry = 0x0f << badShift
	no2      entry = 0x04 << badShift
)

// Names for entries that occur often.
const (
	xx entry = 0      // not an opcode
	__       = prefix // a prefix or an escape
	no       = pA
	eb       = pA | modrm | s1
	ev       = pA | modrm | sV
	ew       = pA | modrm | s2
	ib       = pA | iB
	iz       = pA | iZ
	iv       = pA | iV
	jb       = pA | iJ1 | kJcc
	jz       = pA | iJ4 | kJcc
	fp       = pA | modrm | special

	rm     = modrm
	rmi    = modrm | iB
	mm     = pN | p6 | modrm | sMM     // MMX and SSE2
	ps     = pA | modrm | sPS          // packed and scalar of both widths
	pd     = pN | p6 | modrm | sX      // packed of both widths
	pN3    = pN | p3 | modrm | sPS     // single only
	x6     = p6 | modrm | sX           // 66 only
	v6     = b6 | modrm | sX           // VEX and EVEX, 66 only
	y6     = e6 | modrm | sX           // EVEX, 66 only
	fma4   = b6 | e2 | modrm | sMovd   // scalar, or four of them
	fma    = b6 | modrm | sY           // scalar
	y63    = e6 | e3 | modrm | sX      // EVEX, 66 and F3
	v3A    = b6 | rmi | sX             // in 0F3A
	y3A    = e6 | rmi | sX             // in 0F3A
	x3A    = p6 | rmi | sX             // in 0F3A
	kk     = pN | p6 | modrm | regOnly // mask registers
	cmpadd = p6 | modrm | memOnly | sY // cmpccxadd
	ph     = eN | e3 | modrm | sPH     // FP16
	xi     = pA | rmi | sX             // XOP with an immediate
	xr     = pA | modrm | sX           // XOP
)

// oneByte is map 0.
var oneByte = [256]entry{
	0x00: eb, ev, eb, ev, ib, iz, xx, xx, eb, ev, eb, ev, ib, iz, xx, __,
	0x10: eb, ev, eb, ev, ib, iz, xx, xx, eb, ev, eb, ev, ib, iz, xx, xx,
	0x20: eb, ev, eb, ev, ib, iz, __, xx, eb, ev, eb, ev, ib, iz, __, xx,
	0x30: eb, ev, eb, ev, ib, iz, __, xx, eb, ev, eb, ev, ib, iz, __, xx,
	0x40: __, __, __, __, __, __, __, __, __, __, __, __, __, __, __, __,
	0x50: no, no, no, no, no, no, no, no, no, no, no, no, no, no, no, no,
	0x60: xx, xx, __, pA | rm | s4, __, __, __, __,
	0x68: iz, ev | iZ, ib, ev | iB, no, no, no, no,
	0x70: jb, jb, jb, jb, jb, jb, jb, jb, jb, jb, jb, jb, jb, jb, jb, jb,
	0x80: eb | iB, ev | iZ, xx, ev | iB, eb, ev, eb, ev,
	0x88: eb, ev, eb, ev, ew, pA | rm | memOnly, ew, pA | rm | s8 | only0,
	0x90: no | special, no, no, no, no, no, no, no, no, no, xx, no, no, no, no, no,
	0xa0: pA | iA | s1, pA | iA | sV, pA | iA | s1, pA | iA | sV, no, no, no, no,
	0xa8: ib, iz, no, no, no, no, no, no,
	0xb0: ib, ib, ib, ib, ib, ib, ib, ib, iv, iv, iv, iv, iv, iv, iv, iv,
	0xc0: eb | iB, ev | iB, pA | iW | kRet, no | kRet, __, __, eb | iB | special, ev | iZ | special,
	0xc8: pA | iBW, no, pA | iW | kRet, no | kRet, no | kInt3, ib, xx, no | kRet,
	0xd0: eb, ev, eb, ev, xx, xx, xx, no, fp, fp, fp, fp, fp, fp, fp, fp,
	0xe0: jb, jb, jb, jb, ib, ib, ib, ib,
	0xe8: pA | iJ4 | kCall, pA | iJ4 | kJmp, xx, pA | iJ1 | kJmp, no, no, no, no,
	0xf0: __, no, __, __, no | kTrap, no, eb | iTestB, ev | iTestZ,
	0xf8: no, no, no, no, no, no, eb | only01, ev | only0to6 | special,
}

// map0F is the legacy map 0F.
var map0F = [256]entry{
	0x00: ew | only0to5, pA | rm | special, ew, ew, xx, no | kSys, no, no,
	0x08: no, pN | p3, xx, no | kTrap, xx, pA | rm, no, pA | rmi | s8 | special,
	0x10: ps, ps, pA | rm | sDup, pN | p6 | rm | memOnly | s8,
	0x14: pd, pd, pN | p6 | p3 | rm | sDup, pN | p6 | rm | memOnly | s8,
	0x18: pA | rm | special, pA | rm | kNop, pA | rm | special, pA | rm | special,
	0x1c: pA | rm | special, pA | rm | kNop, pA | rm | special, pA | rm | kNop,
	0x20: pA | rm | regOnly, pA | rm | regOnly, pA | rm | regOnly, pA | rm | regOnly, xx, xx, xx, xx,
	0x28: pd, pd, pA | rm | sCvtI, ps | memOnly, ps, ps, pN | p6 | rm | sS, pN | p6 | rm | sS,
	0x30: no, no, no, no, no | kSys, no, xx, no, __, xx, __, xx, xx, xx, xx, xx,
	0x40: ev, ev, ev, ev, ev, ev, ev, ev, ev, ev, ev, ev, ev, ev, ev, ev,
	0x50: pd | regOnly, ps, pN3, pN3, pd, pd, pd, pd,
	0x58: ps, ps, pA | rm | sCvtF, pN | p6 | p3 | rm | sX, ps, ps, ps, ps,
	0x60: mm, mm, mm, mm, mm, mm, mm, mm,
	0x68: mm, mm, mm, mm, x6, x6, pN | p6 | rm | sY, mm | p3,
	0x70: pA | rmi | sMM, pN | p6 | rmi | regOnly | only246, pN | p6 | rmi | regOnly | only246,
	0x73: pN | p6 | rmi | regOnly | only2367 | special, mm, mm, mm, pN,
	0x78: pN | p6 | p2 | rm | iBB | s8 | special, pN | p6 | p2 | rm | s8 | special,
	0x7a: xx, xx, p6 | p2 | rm | sX, p6 | p2 | rm | sX, pN | p6 | p3 | rm | sMovd, mm | p3,
	0x80: jz, jz, jz, jz, jz, jz, jz, jz, jz, jz, jz, jz, jz, jz, jz, jz,
	0x90: eb, eb, eb, eb, eb, eb, eb, eb, eb, eb, eb, eb, eb, eb, eb, eb,
	// bt, bts, btr and btc with a register reach beyond the operand: size unknown.
	0xa0: no, no, no, pA | rm, ev | iB, ev, pA | rm | regOnly | only0to2, pA | rm | regOnly | only0to5,
	0xa8: no, no, no, pA | rm, ev | iB, ev, pA | rm | special, ev,
	0xb0: eb, ev, pA | rm | memOnly, pA | rm, pA | rm | memOnly, pA | rm | memOnly, eb, ew,
	0xb8: p3 | rm | sV, pA | rm | kTrap, ev | iB | only4to7, pA | rm, ev &^ p2, ev &^ p2, eb, ew,
	0xc0: eb, ev, ps | iB, pN | rm | memOnly | sY, pN | p6 | rmi | s2, pN | p6 | rmi | regOnly, pd | iB,
	0xc7: pA | rm | only1to7 | no2 | special, no, no, no, no, no, no, no, no,
	0xd0: p6 | p2 | rm | sX, mm, mm, mm, mm, mm, p6 | p3 | p2 | rm | s8, mm | regOnly,
	0xd8: mm, mm, mm, mm, mm, mm, mm, mm,
	0xe0: mm, mm, mm, mm, mm, mm, p6 | p3 | p2 | rm | sCvtD, mm | memOnly,
	0xe8: mm, mm, mm, mm, mm, mm, mm, mm,
	0xf0: p2 | rm | memOnly | sX, mm, mm, mm, mm, mm, mm, mm | regOnly,
	0xf8: mm, mm, mm, mm, mm, mm, mm, pA | rm | kTrap,
}

// map38 is the legacy map 0F38.
var map38 = [256]entry{
	0x00: mm, mm, mm, mm, mm, mm, mm, mm, mm, mm, mm, mm,
	0x10: x6, 0x14: x6, x6, 0x17: x6, 0x1c: mm, mm, mm,
	0x20: p6 | rm | s8, p6 | rm | s4, p6 | rm | s2, p6 | rm | s8, p6 | rm | s4, p6 | rm | s8,
	0x28: x6, x6, x6 | memOnly, x6,
	0x30: p6 | rm | s8, p6 | rm | s4, p6 | rm | s2, p6 | rm | s8, p6 | rm | s4, p6 | rm | s8,
	0x37: x6, x6, x6, x6, x6, x6, x6, x6, x6, x6, x6,
	0x80: x6 | memOnly, x6 | memOnly, x6 | memOnly,
	0xc8: pN | rm | sX, pN | rm | sX, pN | rm | sX, pN | rm | sX, pN | rm | sX, pN | rm | sX, xx, x6,
	0xd8: p3 | rm | memOnly | s64 | only0to3, 0xdb: x6,
	0xdc: x6 | p3 | special, x6 | p3 | special, x6 | p3 | special, x6 | p3 | special,
	0xf0: ev &^ p3, ev &^ p3, 0xf5: p6 | rm | memOnly | sY, pN | p6 | p3 | rm | sY,
	0xf8: p6 | p3 | p2 | rm | memOnly | s64, pN | rm | memOnly | sY, p3 | rm | regOnly, p3 | rm | regOnly,
	0xfc: pA | rm | memOnly | sY,
}

// map3A is the legacy map 0F3A.
var map3A = [256]entry{
	0x08: x3A, x3A, p6 | rmi | s4, p6 | rmi | s8, x3A, x3A, x3A, mm | iB,
	0x14: p6 | rmi | s1, p6 | rmi | s2, p6 | rmi | sY, p6 | rmi | s4,
	0x20: p6 | rmi | s1, p6 | rmi | s4, p6 | rmi | sY,
	0x40: x3A, x3A, x3A, 0x44: x3A, 0x60: x3A, x3A, x3A, x3A,
	0xcc: pN | rmi | sX, 0xce: x3A, x3A, 0xdf: x3A, 0xf0: p3 | rmi | regOnly | only0,
}
