package cfi

import (
	"errors"
	"strings"
	"testing"
)

func TestEval(t *testing.T) {
	// The expression of lazy PLT stubs: 8 bytes more after the push at offset 11 of 16.
	plt := []byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}
	var regs Regs
	regs.Set(RSP, 0x7000)
	regs.Set(RA, 0x102b)
	neg := func(v int64) uint64 { return uint64(v) }
	tests := []struct {
		name string
		expr []byte
		want uint64
	}{
		{"plt after the push", plt, 0x7010},
		{"literals", []byte{0x30}, 0},
		{"lit31", []byte{0x4f}, 31},
		{"const1u", []byte{0x08, 0xff}, 255},
		{"const1s", []byte{0x09, 0xff}, neg(-1)},
		{"const2u", []byte{0x0a, 0xfe, 0xff}, 0xfffe},
		{"const2s", []byte{0x0b, 0xfe, 0xff}, neg(-2)},
		{"const4u", []byte{0x0c, 0xfe, 0xff, 0xff, 0xff}, 0xfffffffe},
		{"const4s", []byte{0x0d, 0xfe, 0xff, 0xff, 0xff}, neg(-2)},
		{"const8u", append([]byte{0x0e}, field(1<<63, 8)...), 1 << 63},
		{"const8s", append([]byte{0x0f}, field(1<<63, 8)...), 1 << 63},
		{"constu", []byte{0x10, 0x80, 1}, 128},
		{"consts", []byte{0x11, 0x7f}, neg(-1)},
		{"consts widest", append([]byte{0x11}, append([]byte(strings.Repeat("\x80", 9)), 0x7f)...), 1 << 63},
		{"dup", []byte{0x32, 0x12, 0x22}, 4},
		{"drop", []byte{0x32, 0x33, 0x13}, 2},
		{"over", []byte{0x32, 0x33, 0x14}, 2},
		{"pick", []byte{0x32, 0x33, 0x34, 0x15, 2}, 2},
		{"swap", []byte{0x35, 0x33, 0x16, 0x1c}, neg(-2)},
		{"rot", []byte{0x32, 0x33, 0x34, 0x17, 0x1c}, neg(-1)},       // 4 2 3 -> 2-3
		{"rot third", []byte{0x32, 0x33, 0x34, 0x17, 0x13, 0x13}, 4}, // the top went third
		{"abs", []byte{0x09, 0xfd, 0x19}, 3},
		{"and", []byte{0x3c, 0x3a, 0x1a}, 8},
		{"div", []byte{0x09, 0xf8, 0x32, 0x1b}, neg(-4)},
		{"div lowest by -1", append(append([]byte{0x0e}, field(1<<63, 8)...), 0x09, 0xff, 0x1b), 1 << 63},
		{"minus", []byte{0x32, 0x33, 0x1c}, neg(-1)},
		{"mod", []byte{0x09, 0xff, 0x3a, 0x1d}, 5}, // unsigned
		{"mul", []byte{0x36, 0x37, 0x1e}, 42},
		{"neg", []byte{0x33, 0x1f}, neg(-3)},
		{"not", []byte{0x30, 0x20}, neg(-1)},
		{"or", []byte{0x3c, 0x33, 0x21}, 15},
		{"plus_uconst", []byte{0x33, 0x23, 0x80, 1}, 131},
		{"shl", []byte{0x31, 0x34, 0x24}, 16},
		{"shl too far", []byte{0x31, 0x08, 64, 0x24}, 0},
		{"shr", []byte{0x09, 0xff, 0x08, 60, 0x25}, 15},
		{"shra", []byte{0x09, 0xf0, 0x32, 0x26}, neg(-4)},
		{"xor", []byte{0x3c, 0x3a, 0x27}, 6},
		{"eq", []byte{0x33, 0x33, 0x29}, 1},
		{"ge", []byte{0x09, 0xff, 0x30, 0x2a}, 0}, // signed
		{"gt", []byte{0x30, 0x09, 0xff, 0x2b}, 1},
		{"le", []byte{0x33, 0x33, 0x2c}, 1},
		{"lt", []byte{0x09, 0xff, 0x30, 0x2d}, 1},
		{"ne", []byte{0x33, 0x33, 0x2e}, 0},
		{"skip", []byte{0x33, 0x2f, 1, 0, 0x34}, 3},
		{"bra taken", []byte{0x33, 0x31, 0x28, 1, 0, 0x34}, 3},
		{"bra not taken", []byte{0x33, 0x30, 0x28, 1, 0, 0x34}, 4},
		{"loop", []byte{0x3a, 0x31, 0x1c, 0x12, 0x28, 0xfa, 0xff}, 0},
		{"bregx", []byte{0x92, RSP, 0x78}, 0x6ff8},
		{"deref", []byte{0x77, 0, 0x06}, 0x8877665544337000},
		{"deref_size", []byte{0x77, 0, 0x94, 2}, 0x7000},
		{"nop", []byte{0x33, 0x96}, 3},
	}
	read := func(addr uint64) (uint64, error) { return 0x8877665544330000 | addr&0xffff, nil }
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := eval(tt.expr, &regs, read)
			if err != nil || got != tt.want {
				t.Errorf("got %#x, %v; want %#x", got, err, tt.want)
			}
		})
	}
	regs.Set(RA, 0x102a)
	if got, err := eval(plt, &regs, read); err != nil || got != 0x7008 {
		t.Errorf("plt before the push: got %#x, %v; want 0x7008", got, err)
	}
	if got, err := eval([]byte{0x23, 8}, &regs, read, 0x500); err != nil || got != 0x508 {
		t.Errorf("with an initial value: got %#x, %v; want 0x508", got, err)
	}
}

func TestEvalRefuses(t *testing.T) {
	errGone := errors.New("gone")
	tests := []struct {
		name string
		expr []byte
		want error // nil: any
	}{
		{"empty", nil, errStack},
		{"underflow", []byte{0x31, 0x22}, errStack},
		{"pick too deep", []byte{0x31, 0x15, 1}, errStack},
		{"overflow", []byte{0x31, 0x12, 0x2f, 0xfc, 0xff}, errStack},
		{"endless", []byte{0x2f, 0xfd, 0xff}, errSteps},
		{"branch before", []byte{0x2f, 0xf0, 0xff}, nil},
		{"branch beyond", []byte{0x2f, 1, 0}, nil},
		{"truncated", []byte{0x0c, 1}, errTruncated},
		{"division", []byte{0x31, 0x30, 0x1b}, errDivide},
		{"modulo", []byte{0x31, 0x30, 0x1d}, errDivide},
		{"unknown register", []byte{0x70, 0}, errUnknown},
		{"vector register", []byte{0x92, 17, 0}, errUnknown},
		{"unreadable", []byte{0x31, 0x06}, errGone},
		{"deref_size 0", []byte{0x31, 0x94, 0}, nil},
		{"deref_size 3", []byte{0x31, 0x94, 3}, nil},
		{"deref_size 16", []byte{0x31, 0x94, 16}, nil},
		{"addr", []byte{0x03, 0, 0, 0, 0, 0, 0, 0, 0}, nil},
		{"call_frame_cfa", []byte{0x9c}, nil},
		{"register location", []byte{0x50}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var regs Regs
			got, err := eval(tt.expr, &regs, func(uint64) (uint64, error) { return 0, errGone })
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %#x, %v; want %v", got, err, tt.want)
			}
		})
	}
}
