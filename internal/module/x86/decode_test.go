package x86

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, code string
		want       Inst
	}{
		{"endbr64", "f3 0f 1e fa", Inst{Kind: Endbr, Len: 4, Rep: true, Map: 1, Opcode: 0x1e, HasModRM: true, ModRM: 0xfa}},
		{"rdsspd is no nop", "f3 0f 1e c8", Inst{Len: 4, Rep: true, Map: 1, Opcode: 0x1e, HasModRM: true, ModRM: 0xc8}},
		{"pause is no nop", "f3 90", Inst{Len: 2, Rep: true, Opcode: 0x90}},
		{"xchg r8, rax is no nop", "49 90", Inst{Len: 2, REX: 0x49, Opcode: 0x90}},
		{"xchg ax, ax", "66 90", Inst{Kind: Nop, Len: 2, Data16: true, Opcode: 0x90}},
		{"prefetchw is no nop", "0f 0d 08", Inst{Len: 3, Map: 1, Opcode: 0x0d, HasModRM: true, ModRM: 0x08}},
		{"longest nop", "66 66 2e 0f 1f 84 00 00 02 00 00", Inst{
			Kind: Nop, Len: 11, Data16: true, Map: 1, Opcode: 0x1f, HasModRM: true, ModRM: 0x84, HasSIB: true,
			DispOff: 7, DispLen: 4, Disp: 0x200,
		}},
		{"REX before a prefix is ignored", "48 66 b8 34 12", Inst{
			Len: 5, Data16: true, Opcode: 0xb8, ImmOff: 3, ImmLen: 2, Imm: 0x1234,
		}},
		{"REX.W outweighs 66", "66 48 c7 00 01 00 00 80", Inst{
			Len: 8, Data16: true, REX: 0x48, Opcode: 0xc7, HasModRM: true, ImmOff: 4, ImmLen: 4, Imm: -0x7fffffff, MemSize: 8,
		}},
		{"movabs", "48 b8 88 77 66 55 44 33 22 f1", Inst{
			Len: 10, REX: 0x48, Opcode: 0xb8, ImmOff: 2, ImmLen: 8, Imm: -0xeddccbbaa998878,
		}},
		{"moffs under 67", "67 a0 01 02 03 04", Inst{
			Len: 6, Addr32: true, Opcode: 0xa0, DispOff: 2, DispLen: 4, Disp: 0x4030201, MemSize: 1,
		}},
		{"enter", "c8 10 00 02", Inst{Len: 4, Opcode: 0xc8, ImmOff: 1, ImmLen: 3, Imm: 0x20010}},
		{"call under data16 and rex.W", "66 66 48 e8 fc ff ff ff", Inst{
			Kind: Call, Len: 8, Data16: true, REX: 0x48, Opcode: 0xe8, DispOff: 4, DispLen: 4, Disp: -4,
		}},
		{"66 leaves rel32 alone", "66 e9 01 02 03 04", Inst{
			Kind: Jmp, Len: 6, Data16: true, Opcode: 0xe9, DispOff: 2, DispLen: 4, Disp: 0x4030201,
		}},
		{"bnd jmp", "f2 e9 01 00 00 00", Inst{Kind: Jmp, Len: 6, Repne: true, Opcode: 0xe9, DispOff: 2, DispLen: 4, Disp: 1}},
		{"notrack jmp", "3e ff e0", Inst{Kind: JmpInd, Len: 3, Opcode: 0xff, HasModRM: true, ModRM: 0xe0}},
		{"jecxz", "67 e3 fe", Inst{Kind: Jcc, Len: 3, Addr32: true, Opcode: 0xe3, DispOff: 2, DispLen: 1, Disp: -2}},
		{"xbegin", "c7 f8 01 00 00 00", Inst{
			Kind: Jcc, Len: 6, Opcode: 0xc7, HasModRM: true, ModRM: 0xf8, DispOff: 2, DispLen: 4, Disp: 1,
		}},
		{"test has an immediate", "f6 05 01 00 00 00 07", Inst{
			Len: 7, Opcode: 0xf6, HasModRM: true, ModRM: 5, DispOff: 2, DispLen: 4, Disp: 1, RIP: true,
			ImmOff: 6, ImmLen: 1, Imm: 7, MemSize: 1,
		}},
		{"not has none", "f7 15 01 00 00 00", Inst{
			Len: 6, Opcode: 0xf7, HasModRM: true, ModRM: 0x15, DispOff: 2, DispLen: 4, Disp: 1, RIP: true, MemSize: 4,
		}},
		{"fs is in force behind cs", "64 2e 8b 04 25 28 00 00 00", Inst{
			Len: 9, Seg: 0x64, Opcode: 0x8b, HasModRM: true, ModRM: 4, HasSIB: true, SIB: 0x25,
			DispOff: 5, DispLen: 4, Disp: 0x28, MemSize: 4,
		}},
		{"3DNow! opcode at the end", "0f 0f 48 04 9e", Inst{
			Len: 5, Map: 1, Opcode: 0x0f, HasModRM: true, ModRM: 0x48, DispOff: 3, DispLen: 1, Disp: 4,
			ImmOff: 4, ImmLen: 1, Imm: -0x62, MemSize: 8,
		}},
		{"VEX", "c5 fc 28 05 01 00 00 00", Inst{
			Len: 8, REX: 0x40, VEX: true, Map: 1, Opcode: 0x28, HasModRM: true, ModRM: 5,
			DispOff: 4, DispLen: 4, Disp: 1, RIP: true, MemSize: 32,
		}},
		{"EVEX, compressed disp8, broadcast", "62 d1 ed 58 58 4f 01", Inst{
			Len: 7, REX: 0x49, VEX: true, EVEX: true, Map: 1, Opcode: 0x58, HasModRM: true, ModRM: 0x4f,
			DispOff: 6, DispLen: 1, Disp: 1, MemSize: 8,
		}},
		{"XOP with 4 bytes", "8f ea 78 10 05 01 00 00 00 34 12 00 00", Inst{
			Len: 13, REX: 0x40, VEX: true, Map: 10, Opcode: 0x10, HasModRM: true, ModRM: 5,
			DispOff: 5, DispLen: 4, Disp: 1, RIP: true, ImmOff: 9, ImmLen: 4, Imm: 0x1234, MemSize: 4,
		}},
		{"pop is no XOP", "8f 00", Inst{Len: 2, Opcode: 0x8f, HasModRM: true, MemSize: 8}},
		{"extrq", "66 0f 78 c1 03 04", Inst{
			Len: 6, Data16: true, Map: 1, Opcode: 0x78, HasModRM: true, ModRM: 0xc1, ImmOff: 4, ImmLen: 2, Imm: 0x403,
		}},
		{"ud1 has ModRM", "67 0f b9 40 10", Inst{
			Kind: Trap, Len: 5, Addr32: true, Map: 1, Opcode: 0xb9, HasModRM: true, ModRM: 0x40, DispOff: 4, DispLen: 1, Disp: 0x10,
		}},
		{"15 bytes", "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", Inst{Kind: Nop, Len: 15, Data16: true, Opcode: 0x90}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code := unhex(t, tt.code)
			for _, rest := range []string{"", "cc", "00 00 00 00 00 00 00 00 00 00 00 00 00 00"} {
				got, err := Decode(append(code[:len(code):len(code)], unhex(t, rest)...))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			}
			for n := range code {
				if _, err := Decode(code[:n]); !errors.Is(err, ErrTruncated) {
					t.Errorf("%d bytes of it: %v", n, err)
				}
			}
		})
	}
}

func TestInvalid(t *testing.T) {
	for name, code := range map[string]string{
		"push es":           "06",
		"call far":          "9a 00 00 00 00 00 00",
		"group 5 /7":        "ff f8",
		"jmp far, register": "ff e8",
		"lea, register":     "8d c0",
		"66 before VEX":     "66 c5 fc 28 c0",
		"REX before VEX":    "48 c5 fc 28 c0",
		"lock before EVEX":  "f0 62 f1 7c 48 58 c0",
		"VEX map 0":         "c4 e0 78 58 c0",
		"EVEX map 4 (APX)":  "62 f4 7c 08 58 c0",
		"EVEX bit 3 (APX)":  "62 f9 7c 08 58 c0",
		"REX2 (APX)":        "d5 00 58 c0",
		"EVEX length 3":     "62 f1 7c 68 58 c0",
		"XOP map 11":        "8f eb 78 10 c0",
		"3DNow! 00":         "0f 0f c0 00",
		"fld /1 memory":     "d9 08",
		"16 bytes":          "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90",
		"16 bytes in all":   "66 66 66 66 66 66 66 66 66 48 c7 40 00 00 00 00 00",
	} {
		if in, err := Decode(unhex(t, code)); !errors.Is(err, ErrInvalid) || in != (Inst{}) {
			t.Errorf("%s: %+v, %v", name, in, err)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		code     string
		relative bool
		want     uint64
	}{
		{"eb fe", true, 0x1000},
		{"e8 fb ff ff ff", true, 0x1000},
		{"0f 84 00 00 00 80", true, 0xffffffff80001006},
		{"c7 05 f6 ff ff ff 00 00 00 00", true, 0x1000},
		{"8b 04 25 00 00 00 00", false, 0},
		{"ff e0", false, 0},
	} {
		in, err := Decode(unhex(t, tt.code))
		if err != nil || in.Relative() != tt.relative || tt.relative && in.Target(0x1000) != tt.want {
			t.Errorf("%s: %v, %t, %#x", tt.code, err, in.Relative(), in.Target(0x1000))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"90", "f30f1efa", "660f1f440000", "62f17c48580501000000", "8fea781005", "9090"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		in, err := Decode(code)
		if err != nil {
			if in != (Inst{}) || err != ErrInvalid && err != ErrTruncated {
				t.Fatalf("%+v, %v", in, err)
			}
			return
		}
		n := in.Len
		if n < 1 || n > 15 || int(n) > len(code) || in.DispOff+in.DispLen > n || in.ImmOff+in.ImmLen > n {
			t.Fatalf("%+v", in)
		}
		if in.DispLen != 0 && in.ImmLen != 0 && in.DispOff+in.DispLen != in.ImmOff || in.RIP && in.DispLen != 4 {
			t.Fatalf("%+v", in)
		}
		if again, err := Decode(code[:n]); err != nil || again != in {
			t.Fatalf("%+v, but alone %+v, %v", in, again, err)
		}
		if _, err := Decode(code[:n-1]); err != ErrTruncated {
			t.Fatalf("%+v, but one byte less: %v", in, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	const file = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6"
	if _, err := os.Stat(file); err != nil {
		b.Fatal(err)
	}
	p := fdePieces(b, file, 1<<30)[0]
	insts := 0
	b.ReportAllocs()
	for b.Loop() {
		insts = 0
		for code := p.flat; len(code) > 0; insts++ {
			in, err := Decode(code)
			if err != nil {
				b.Fatal(err)
			}
			code = code[in.Len:]
		}
	}
	b.ReportMetric(float64(insts)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Minst/s")
}
