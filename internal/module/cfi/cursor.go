package cfi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Pointer encodings (LSB 5.0 Core, 10.5 "DWARF Extensions").
const (
	encOmit     = 0xff
	encIndirect = 0x80

	encAbs     = 0x00
	encPCRel   = 0x10
	encDataRel = 0x30
	encUleb    = 0x01
	encUdata2  = 0x02
	encUdata4  = 0x03
	encUdata8  = 0x04
	encSleb    = 0x09
	encSdata2  = 0x0a
	encSdata4  = 0x0b
	encSdata8  = 0x0c
)

var (
	errTruncated = errors.New("truncated")
	errLEB       = errors.New("LEB128 number longer than 64 bits")
)

// A cursor reads b from off. The first error sticks; later reads give zeros.
type cursor struct {
	b   []byte
	off int
	err error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// bytes takes the next n bytes.
func (c *cursor) bytes(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.b)-c.off) {
		c.fail(errTruncated)
		return nil
	}
	b := c.b[c.off : c.off+int(n) : c.off+int(n)]
	c.off += int(n)
	return b
}

func (c *cursor) u8() byte {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) uleb() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if c.err != nil {
			return 0
		}
		if shift > 63 || shift == 63 && b&0x7f > 1 {
			c.fail(errLEB)
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

func (c *cursor) sleb() int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		b := c.u8()
		if c.err != nil {
			return 0
		}
		if low := b & 0x7f; shift > 63 || shift == 63 && low != 0 && low != 0x7f {
			c.fail(errLEB)
			return 0
		}
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			if b&0x40 != 0 && shift < 57 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

// cstring takes the bytes up to a zero byte.
func (c *cursor) cstring() string {
	start := c.off
	for {
		b := c.u8()
		if c.err != nil {
			return ""
		}
		if b == 0 {
			return string(c.b[start : c.off-1])
		}
	}
}

// encoded reads the value of a pointer field without applying its base.
func (c *cursor) encoded(enc byte) uint64 {
	switch enc & 0x0f {
	case encAbs, encUdata8, encSdata8:
		return c.u64()
	case encUleb:
		return c.uleb()
	case encUdata2:
		return uint64(c.u16())
	case encUdata4:
		return uint64(c.u32())
	case encSleb:
		return uint64(c.sleb())
	case encSdata2:
		return uint64(int16(c.u16()))
	case encSdata4:
		return uint64(int32(c.u32()))
	}
	c.fail(fmt.Errorf("pointer encoding %#x", enc))
	return 0
}

// pointer reads a pointer field; base is the image address of b[0]. A field
// that holds zero is a null pointer whatever it is relative to, as libgcc has
// it (unwind-pe.h).
func (c *cursor) pointer(enc byte, base uint64) Pointer {
	if enc == encOmit {
		return Pointer{Enc: enc}
	}
	p := Pointer{Enc: enc, Off: c.off}
	v := c.encoded(enc)
	p.Size = c.off - p.Off
	p.Indirect = enc&encIndirect != 0
	switch enc & 0x70 {
	case encAbs:
	case encPCRel:
		if v != 0 {
			v += base + uint64(p.Off)
		}
	default:
		c.fail(fmt.Errorf("pointer encoding %#x", enc))
	}
	if c.err == nil {
		p.Value = v
	}
	return p
}

// fixedSize is the size in bytes of a pointer field, 0 where it varies.
func fixedSize(enc byte) int {
	switch enc & 0x0f {
	case encAbs, encUdata8, encSdata8:
		return 8
	case encUdata4, encSdata4:
		return 4
	case encUdata2, encSdata2:
		return 2
	}
	return 0
}
