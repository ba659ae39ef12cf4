package cfi

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Frame is one function range that Build describes: the range, rules and
// flags of a parsed FDE.
type Frame struct {
	FDE *FDE
	// Personality, unless 0, takes the place of the CIE's: the image address of
	// the slot that holds the routine's address where the CIE's pointer is
	// indirect, else of the routine.
	Personality uint64
	// LSDA, unless 0, takes the place of the FDE's.
	LSDA uint64
}

// Unwind is a new .eh_frame_hdr with its .eh_frame behind it. All pointers are
// relative to themselves or to the header, so that it stays right wherever it
// is put together with the code and the LSDAs it speaks of.
type Unwind struct {
	Bytes         []byte
	Hdr, Frame    uint64 // image addresses of the two parts; Hdr is that of Bytes[0]
	FrameLen      uint64 // of .eh_frame in bytes, with its terminator
	Personalities []PersonalityField
}

// A PersonalityField is a personality pointer in Unwind.Bytes: signed, 32 bits,
// relative to itself. What it leads to may be elsewhere than the code.
type PersonalityField struct {
	At       uint64 // image address of the field
	Target   uint64 // image address that the field leads to now
	Indirect bool   // Target is a slot that holds the routine's address
}

// cieKey is what FDEs must have in common to share a CIE.
type cieKey struct {
	codeAlign   uint64
	dataAlign   int64
	personality uint64
	indirect    bool
	lsda        bool
	signal      bool
	instrs      string
}

const (
	hdrFixed  = 12 // bytes of .eh_frame_hdr before its table
	hdrEntry  = 8
	frameUnit = 8 // entries of .eh_frame are padded to it
)

// Build writes unwind tables for frames, whose code keeps its image addresses,
// to lie at image address at, a multiple of 4. The header has version 1 and a
// binary search table of 32-bit offsets from the header, sorted by address,
// which is the one form that libgcc (unwind-dw2-fde-dip.c) and glibc's
// _dl_find_object look up (LSB 5.0 Core, 10.6.2). It fails where ranges
// overlap, something is further than 2 GiB away, or a rule cannot be moved.
func Build(at uint64, frames []Frame) (*Unwind, error) {
	if at%4 != 0 {
		return nil, fmt.Errorf("build unwind tables at %#x: not a multiple of 4", at)
	}
	frames = slices.Clone(frames)
	slices.SortFunc(frames, func(a, b Frame) int { return cmp.Compare(a.FDE.Start, b.FDE.Start) })
	for i := 1; i < len(frames); i++ {
		if frames[i].FDE.Start < frames[i-1].FDE.End {
			return nil, fmt.Errorf("build unwind tables: ranges overlap at %#x", frames[i].FDE.Start)
		}
	}
	frameAt := (at + uint64(hdrFixed+hdrEntry*len(frames)) + frameUnit - 1) &^ (frameUnit - 1)
	b := builder{base: at, out: &Unwind{Hdr: at, Frame: frameAt}, cies: map[cieKey]int{}}
	b.u8(1, encPCRel|encSdata4, encUdata4, encDataRel|encSdata4)
	b.relative(frameAt, b.addr())
	b.u32(uint32(len(frames)))
	table := len(b.b)
	b.b = append(b.b, make([]byte, int(frameAt-b.addr()))...)
	for _, f := range frames {
		entry, err := b.frame(f)
		if err == nil {
			err = b.err
		}
		if err != nil {
			return nil, fmt.Errorf("build unwind tables: range at %#x: %w", f.FDE.Start, err)
		}
		start, err := offset32(f.FDE.Start, at)
		if err != nil {
			return nil, fmt.Errorf("build unwind tables: range at %#x: %w", f.FDE.Start, err)
		}
		binary.LittleEndian.PutUint32(b.b[table:], start)
		binary.LittleEndian.PutUint32(b.b[table+4:], uint32(entry))
		table += hdrEntry
	}
	b.u32(0)
	if b.err != nil || len(b.b) > math.MaxInt32 {
		return nil, errors.Join(errors.New("build unwind tables: too large"), b.err)
	}
	b.out.Bytes = b.b
	b.out.FrameLen = b.addr() - frameAt
	return b.out, nil
}

// offset32 is to-from as a signed 32-bit number.
func offset32(to, from uint64) (uint32, error) {
	d := int64(to - from)
	if d != int64(int32(d)) {
		return 0, fmt.Errorf("%#x is further than 2 GiB from %#x", to, from)
	}
	return uint32(d), nil
}

// A builder appends to b, which lies at image address base.
type builder struct {
	b    []byte
	base uint64
	out  *Unwind
	cies map[cieKey]int // offsets in b
	err  error
}

func (b *builder) addr() uint64  { return b.base + uint64(len(b.b)) }
func (b *builder) u8(v ...byte)  { b.b = append(b.b, v...) }
func (b *builder) u32(v uint32)  { b.b = binary.LittleEndian.AppendUint32(b.b, v) }
func (b *builder) uleb(v uint64) { b.b = binary.AppendUvarint(b.b, v) }

func (b *builder) sleb(v int64) {
	for v < -64 || v > 63 {
		b.u8(byte(v)&0x7f | 0x80)
		v >>= 7
	}
	b.u8(byte(v) & 0x7f)
}

// relative appends a field that holds to-from.
func (b *builder) relative(to, from uint64) {
	v, err := offset32(to, from)
	if b.err == nil {
		b.err = err
	}
	b.u32(v)
}

// begin starts an entry and returns its offset; end pads it and sets its length.
func (b *builder) begin() int {
	b.u32(0)
	return len(b.b) - 4
}

func (b *builder) end(off int) {
	for b.addr()%frameUnit != 0 {
		b.u8(cfaNop)
	}
	binary.LittleEndian.PutUint32(b.b[off:], uint32(len(b.b)-off-4))
}

// frame appends one FDE, with its CIE where that is new, and returns its offset.
func (b *builder) frame(f Frame) (int, error) {
	src := f.FDE
	if err := movable(src); err != nil {
		return 0, err
	}
	key := cieKey{
		codeAlign: src.CIE.CodeAlign, dataAlign: src.CIE.DataAlign,
		signal: src.CIE.Signal, lsda: src.CIE.LSDAEnc != encOmit, instrs: string(src.CIE.Instrs),
	}
	if p := src.CIE.Personality; p.Enc != encOmit {
		key.personality, key.indirect = cmp.Or(f.Personality, p.Value), p.Indirect
		if key.personality == 0 {
			return 0, errors.New("personality is null")
		}
	} else if f.Personality != 0 {
		return 0, errors.New("a personality for a range that has none")
	}
	lsda := src.LSDA.Value
	if lsda == 0 && f.LSDA != 0 {
		return 0, errors.New("an LSDA for a range that has none")
	}
	lsda = cmp.Or(f.LSDA, lsda)
	size := src.End - src.Start
	if size > math.MaxInt32 {
		return 0, fmt.Errorf("range of %#x bytes", size)
	}
	cie, ok := b.cies[key]
	if !ok {
		cie = b.cie(key)
		b.cies[key] = cie
	}
	off := b.begin()
	b.u32(uint32(len(b.b) - cie))
	b.relative(src.Start, b.addr())
	b.u32(uint32(size))
	switch {
	case !key.lsda:
		b.uleb(0)
	case lsda == 0:
		b.uleb(4)
		b.u32(0)
	default:
		b.uleb(4)
		b.relative(lsda, b.addr())
	}
	b.u8(src.Instrs...)
	b.end(off)
	return off, nil
}

// cie appends a CIE and returns its offset.
func (b *builder) cie(k cieKey) int {
	off := b.begin()
	b.u32(0)
	b.u8(1, 'z')
	size := uint64(1) // of the augmentation data
	if k.personality != 0 {
		b.u8('P')
		size += 5
	}
	if k.lsda {
		b.u8('L')
		size++
	}
	b.u8('R')
	if k.signal {
		b.u8('S')
	}
	b.u8(0)
	b.uleb(k.codeAlign)
	b.sleb(k.dataAlign)
	b.u8(RA)
	b.uleb(size)
	if k.personality != 0 {
		enc := byte(encPCRel | encSdata4)
		if k.indirect {
			enc |= encIndirect
		}
		b.u8(enc)
		b.out.Personalities = append(b.out.Personalities, PersonalityField{At: b.addr(), Target: k.personality, Indirect: k.indirect})
		b.relative(k.personality, b.addr())
	}
	if k.lsda {
		b.u8(encPCRel | encSdata4)
	}
	b.u8(encPCRel | encSdata4)
	b.u8([]byte(k.instrs)...)
	b.end(off)
	return off
}

// movable reports what in an FDE would not mean the same at another place.
func movable(f *FDE) error {
	if f.LSDA.Indirect {
		return errors.New("LSDA pointer is indirect")
	}
	for _, code := range [][]byte{f.CIE.Instrs, f.Instrs} {
		c := cursor{b: code}
		for c.off < len(code) {
			in := f.CIE.next(&c, 0)
			if c.err != nil {
				return fmt.Errorf("call-frame instructions: %w", c.err)
			}
			if in.op == cfaSetLoc {
				return errors.New("call-frame instruction set_loc")
			}
		}
	}
	return nil
}
