package x86

// vec0F is map 1 of VEX and EVEX.
var vec0F = [256]entry{
	0x10: bAny | rm | sPS, bAny | rm | sPS, bAny | rm | sDup, bN6 | rm | memOnly | s8,
	0x14: bN6 | rm | sX, bN6 | rm | sX, bN6 | p3 | e3 | rm | sDup, bN6 | rm | memOnly | s8,
	0x28: bN6 | rm | sX, bN6 | rm | sX, p3 | p2 | e3 | e2 | rm | sCvtI, bN6 | rm | memOnly | sX,
	0x2c: p3 | p2 | e3 | e2 | rm | sPS, p3 | p2 | e3 | e2 | rm | sPS, bN6 | rm | sS, bN6 | rm | sS,
	0x41: kk, kk, xx, kk, kk, kk, kk, xx, xx, kk, kk,
	0x50: pd | regOnly, bAny | rm | sPS, pN3, pN3, bN6 | rm | sX, bN6 | rm | sX, bN6 | rm | sX, bN6 | rm | sX,
	0x58: bAny | rm | sPS, bAny | rm | sPS, bAny | rm | sCvtF, bN6 | p3 | e3 | rm | sX,
	0x5c: bAny | rm | sPS, bAny | rm | sPS, bAny | rm | sPS, bAny | rm | sPS,
	0x60: v6, v6, v6, v6, v6, v6, v6, v6,
	0x68: v6, v6, v6, v6, v6, v6, b6 | rm | sY, v6 | p3 | e3 | e2,
	0x70: v6 | p3 | p2 | e3 | e2 | iB, v6 | iB | only246, v6 | iB | only0126&^(0x10<<badShift), v6 | iB | only2367,
	0x74: v6, v6, v6, pN, eAny | rm | sPS, eAny | rm | sPS, e6 | e3 | e2 | rm | sX, e6 | e3 | e2 | rm | sCvtI,
	0x7c: p6 | p2 | rm | sX, p6 | p2 | rm | sX, b6 | p3 | e3 | rm | sMovd, v6 | p3 | e3 | e2,
	0x90: pN | p6 | rm | s8, pN | p6 | rm | memOnly | s8, kk | p2, kk | p2, 0x98: kk, kk,
	0xae: pN | rm | memOnly | s4 | only23,
	0xc2: bAny | rmi | sPS, 0xc4: b6 | rmi | s2, b6 | rmi | regOnly, bN6 | rmi | sX,
	0xd0: p6 | p2 | rm | sX, b6 | rm | s16, b6 | rm | s16, b6 | rm | s16, v6, v6, b6 | rm | s8, x6 | regOnly,
	0xd8: v6, v6, v6, v6, v6, v6, v6, v6,
	0xe0: v6, b6 | rm | s16, b6 | rm | s16, v6, v6, v6, b6 | p3 | p2 | e3 | e2 | rm | sCvtD, v6 | memOnly,
	0xe8: v6, v6, v6, v6, v6, v6, v6, v6,
	0xf0: p2 | rm | memOnly | sX, b6 | rm | s16, b6 | rm | s16, b6 | rm | s16, v6, v6, v6, x6 | regOnly,
	0xf8: v6, v6, v6, v6, v6, v6, v6,
}

// vec38 is map 2. Gathers, scatters and tiles have no size.
var vec38 = [256]entry{
	0x00: v6, x6, x6, x6, v6, x6, x6, x6, x6, x6, x6, v6, v6, v6, x6, x6,
	0x10: y63 | e3, y63, y63, b6 | e3 | rm | sX2, y63, y63, v6, x6,
	0x18: b6 | rm | s4, b6 | rm | s8, b6 | rm | s16, e6 | rm | s32, v6, v6, v6, y6,
	0x20: b6 | e3 | rm | sX2, b6 | e3 | rm | sX4, b6 | e3 | rm | sX8, b6 | e3 | rm | sX2, b6 | e3 | rm | sX4, b6 | e3 | rm | sX2,
	0x26: y63, y63, v6 | e3, v6 | e3, v6 | e3, v6, v6, x6 | e6, x6, x6,
	0x30: b6 | e3 | rm | sX2, b6 | e3 | rm | sX4, b6 | e3 | rm | sX8, b6 | e3 | rm | sX2, b6 | e3 | rm | sX4, b6 | e3 | rm | sX2,
	0x36: v6, v6, v6 | e3, v6 | e3, v6 | e3, v6, v6, v6, v6, v6,
	0x40: v6, x6, y6, e6 | rm | sY, y6, v6, v6, v6,
	0x49: pN | p6 | p2 | rm | s64, 0x4b: p6 | p3 | p2 | rm | memOnly, y6, e6 | rm | sY, y6, e6 | rm | sY,
	0x50: pA | e6 | rm | sX, pA | e6 | rm | sX, v6 | e3 | e2, v6 | e2, y6, y6,
	0x58: b6 | rm | s4, b6 | rm | s8, b6 | rm | s16, e6 | rm | s32, p3 | p2 | rm | regOnly, 0x5e: pA | rm | regOnly,
	0x62: y6, y6, y6, y6, y6, 0x68: e2 | rm | sX, 0x6c: kk,
	0x70: y6, y6, p3 | e6 | e3 | e2 | rm | sX, y6, 0x75: y6, y6, y6, b6 | rm | s1, b6 | rm | s2,
	0x7a: y6 | regOnly, y6 | regOnly, y6 | regOnly, y6, y6, y6, 0x83: y6,
	0x88: y6, y6, y6, y6, x6 | memOnly, y6, x6 | memOnly, y6,
	0x90: b6 | rm | memOnly, b6 | rm | memOnly, b6 | rm | memOnly, b6 | rm | memOnly,
	0x96: v6, v6, v6, fma, v6 | e2, fma4, v6, fma, v6, fma,
	0xa0: e6 | rm | memOnly, e6 | rm | memOnly, e6 | rm | memOnly, e6 | rm | memOnly,
	0xa6: v6, v6, v6, fma, v6 | e2, fma4, v6, fma, v6, fma,
	0xb0: pA | rm | memOnly | sX, p6 | p3 | rm | memOnly | s2, 0xb4: v6, v6,
	0xb6: v6, v6, v6, fma, v6, fma, v6, fma, v6, fma,
	0xc4: y6, 0xc6: e6 | rm | memOnly | only1256, e6 | rm | memOnly | only1256, y6, 0xca: y6,
	0xcb: p2 | e6 | rm | sX, p2 | e6 | rm | sX, p2 | e6 | rm | sX, 0xcf: v6,
	0xd2: pN | p6 | p3 | rm | sX, pN | p6 | p3 | rm | sX, 0xda: pA | rm | sX, x6, v6, v6, v6, v6,
	0xe0: cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd, cmpadd,
	0xf2: pN | rm | sY, pN | rm | sY | only1to3, 0xf5: pN | p3 | p2 | rm | sY, p2 | rm | sY, pA | rm | sY,
}

// vec3A is map 3.
var vec3A = [256]entry{
	0x00: v3A, v3A, x3A, y3A, v3A, v3A, x3A, xx,
	0x08: v3A | eN, v3A, b6 | eN | rmi | s4, b6 | rmi | s8, x3A, x3A, x3A, v3A,
	0x14: b6 | rmi | s1, b6 | rmi | s2, b6 | rmi | sY, b6 | rmi | s4,
	0x18: b6 | rmi | s16, b6 | rmi | s16, e6 | rmi | s32, e6 | rmi | s32, 0x1d: b6 | rmi | sX2, y3A, y3A,
	0x20: b6 | rmi | s1, b6 | rmi | s4, b6 | rmi | sY, y3A, xx, y3A, y3A | eN, e6 | eN | rmi | sY,
	0x30: p6 | rmi | regOnly, p6 | rmi | regOnly, p6 | rmi | regOnly, p6 | rmi | regOnly,
	0x38: b6 | rmi | s16, b6 | rmi | s16, e6 | rmi | s32, e6 | rmi | s32, 0x3e: y3A, y3A,
	0x40: x3A, x3A, v3A, y3A, v3A, xx, x3A, xx, x3A, x3A, x3A, x3A, x3A,
	0x50: y3A, e6 | rmi | sY, 0x54: y3A, e6 | rmi | sY, y3A | eN, e6 | eN | rmi | sY,
	0x5c: x3A, x3A, x3A, x3A, x3A, x3A, x3A, x3A, 0x66: y3A | eN, e6 | eN | rmi | sY,
	0x68: x3A, x3A, p6 | rmi | s4, p6 | rmi | s8, x3A, x3A, p6 | rmi | s4, p6 | rmi | s8,
	0x70: y3A, y3A, y3A, y3A,
	0x78: x3A, x3A, p6 | rmi | s4, p6 | rmi | s8, x3A, x3A, p6 | rmi | s4, p6 | rmi | s8,
	0xc2: eN | e3 | rmi | sPH, 0xce: v3A, v3A, 0xde: x3A, x3A, 0xf0: p2 | rmi | sY,
}

// vec5 and vec6 are FP16. Sizes of conversions are upper bounds.
var vec5 = [256]entry{
	0x10: e3 | rm | s2, e3 | rm | s2, 0x1d: eN | e6 | rm | sX,
	0x2a: e3 | rm | sY, 0x2c: e3 | rm | s2, e3 | rm | s2, eN | rm | s2, eN | rm | s2,
	0x51: ph, 0x58: ph, ph, ph | e6 | e2, eN | y63, ph, ph, ph, ph, 0x6e: e6 | rm | s2,
	0x78: ph | e6, ph | e6, e6 | e2 | rm | sX, e6 | e3 | rm | sCvtI, eN | y6, eAny | rm | sX, e6 | rm | s2,
}

var vec6 = [256]entry{
	0x13: eN | y6, 0x2c: y6, e6 | rm | s2,
	0x42: y6, e6 | rm | s2, 0x4c: y6, e6 | rm | s2, y6, e6 | rm | s2,
	0x56: e3 | e2 | rm | sX, e3 | e2 | rm | s4,
	0x96: y6, y6, y6, e6 | rm | s2, y6, e6 | rm | s2, y6, e6 | rm | s2, y6, e6 | rm | s2,
	0xa6: y6, y6, y6, e6 | rm | s2, y6, e6 | rm | s2, y6, e6 | rm | s2, y6, e6 | rm | s2,
	0xb6: y6, y6, y6, e6 | rm | s2, y6, e6 | rm | s2, y6, e6 | rm | s2, y6, e6 | rm | s2,
	0xd6: e3 | e2 | rm | sX, e3 | e2 | rm | s4,
}

// xop8, xop9 and xopA are the maps of XOP (AMD APM volume 6).
var xop8 = [256]entry{
	0x85: xi, xi, xi, 0x8e: xi, xi, 0x95: xi, xi, xi, 0x9e: xi, xi,
	0xa2: xi, xi, 0xa6: xi, 0xb6: xi, 0xc0: xi, xi, xi, xi,
	0xcc: xi, xi, xi, xi, 0xec: xi, xi, xi, xi,
}

var xop9 = [256]entry{
	0x01: pA | rm | sY | only1to7, pA | rm | sY | only16, 0x12: pA | rm | regOnly | only01,
	0x80: xr, xr, xr, xr, 0x90: xr, xr, xr, xr, xr, xr, xr, xr, xr, xr, xr, xr,
	0xc1: xr, xr, xr, 0xc6: xr, xr, 0xcb: xr, 0xd1: xr, xr, xr, 0xd6: xr, xr, 0xdb: xr,
	0xe1: xr, xr, xr,
}

var xopA = [256]entry{
	0x10: pA | rm | iD | sY, 0x12: pA | rm | iD | s4 | only01,
}

// x87Mem is the size of the memory operand of D8 to DF by ModRM.reg; none
// says that there is no such instruction. fldenv and fnstenv have 28 bytes,
// frstor and fnsave 108; 14 and 94 under 66.
var x87Mem = [64]uint8{
	4, 4, 4, 4, 4, 4, 4, 4,
	4, none, 4, 4, 28, 2, 28, 2,
	4, 4, 4, 4, 4, 4, 4, 4,
	4, 4, 4, 4, none, 10, none, 10,
	8, 8, 8, 8, 8, 8, 8, 8,
	8, 8, 8, 8, 108, none, 108, 2,
	2, 2, 2, 2, 2, 2, 2, 2,
	2, 2, 2, 2, 10, 8, 10, 8,
}

const none = 0xff

// x87Reg has a bit for each ModRM.rm that is an instruction when mod is 11.
var x87Reg = [64]uint8{
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0x01, 0x00, 0x33, 0x7f, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0x00, 0x02, 0x00, 0x00,
	0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0x00,
	0xff, 0xff, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff,
	0xff, 0x00, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00,
	0xff, 0xff, 0x00, 0x02, 0xff, 0xff, 0xff, 0xff,
	0xff, 0x00, 0x00, 0x00, 0x01, 0xff, 0xff, 0x00,
}

// amd3D has a bit for each 3DNow! opcode, which stands in the immediate.
var amd3D = [4]uint64{
	1<<0x0c | 1<<0x0d | 1<<0x1c | 1<<0x1d,
	0,
	1<<(0x8a-128) | 1<<(0x8e-128) | 1<<(0x90-128) | 1<<(0x94-128) | 1<<(0x96-128) | 1<<(0x97-128) |
		1<<(0x9a-128) | 1<<(0x9e-128) | 1<<(0xa0-128) | 1<<(0xa4-128) | 1<<(0xa6-128) | 1<<(0xa7-128) |
		1<<(0xaa-128) | 1<<(0xae-128) | 1<<(0xb0-128) | 1<<(0xb4-128) | 1<<(0xb6-128) | 1<<(0xb7-128) |
		1<<(0xbb-128) | 1<<(0xbf-128),
	0,
}
