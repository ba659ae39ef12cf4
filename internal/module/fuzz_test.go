package module_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hotpatch/internal/module"
)

// library is a small shared library, compiled.
func library(t testing.TB) []byte {
	t.Helper()
	return compiled(t, "-fPIC", "-shared", "-nostdlib", "-s")
}

// placed is the same as a program at a fixed address that keeps its relocations.
func placed(t testing.TB) []byte {
	t.Helper()
	return compiled(t, "-fno-pie", "-no-pie", "-nostartfiles", "-Wl,-e,h", "-Wl,--emit-relocs", "-Wl,--defsym,g=h")
}

func compiled(t testing.TB, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	src, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.so")
	const text = "int v = 3; const int t[] = {1, 2, 3, 4};\nint f(int i) { return t[i & 3] + v++; }\n" +
		"extern int g(int);\nint h(int i) { switch (i) { case 0: return g(1); case 1: return g(7) + 1; case 2: return g(3) * 2; case 3: return g(5) - 4; case 4: return g(2) / 3; } return f(i); }\n"
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Fatal("gcc is not installed: apt install gcc libc6-dev")
	}
	if b, err := exec.Command("gcc", append(flags, "-O2", "-Wl,-z,noseparate-code", "-o", out, src)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzNew: no file makes New panic, or use memory out of all proportion.
func FuzzNew(f *testing.F) {
	f.Add(library(f))
	f.Add(placed(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := module.New(data, "fuzz")
		if err != nil {
			return
		}
		for _, g := range m.Funcs {
			m.Body(g)
		}
	})
}

// TestHostile changes one header field at a time to what asks for too much.
func TestHostile(t *testing.T) {
	for _, good := range [][]byte{library(t), placed(t)} {
		m, err := module.New(good, "good")
		if err != nil || m.Uncertain() != "" {
			t.Fatal(err, m.Uncertain())
		}
		hostile(t, good)
	}
}

func hostile(t *testing.T, good []byte) {
	t.Helper()
	shoff := binary.LittleEndian.Uint64(good[40:])
	n := int(binary.LittleEndian.Uint16(good[60:]))
	phoff, pn := binary.LittleEndian.Uint64(good[32:]), int(binary.LittleEndian.Uint16(good[56:]))
	for _, v := range []uint64{0, 1, 1 << 31, 1<<40 - 1, 1 << 62, 1<<64 - 1, 1<<64 - 4096} {
		for i := range n {
			for _, field := range []uint64{8, 16, 24, 32, 48, 56} {
				d := append([]byte(nil), good...)
				binary.LittleEndian.PutUint64(d[shoff+uint64(i)*64+field:], v)
				_, _ = module.New(d, "section") // whatever it says, it says something
			}
		}
		for i := range pn {
			for field := uint64(8); field < elf.Sym64Size*2; field += 8 {
				d := append([]byte(nil), good...)
				binary.LittleEndian.PutUint64(d[phoff+uint64(i)*56+field:], v)
				_, _ = module.New(d, "segment")
			}
		}
	}
}

// TestBounds: files that would take more memory than they are worth.
func TestBounds(t *testing.T) {
	good := library(t)
	if _, err := module.ELF(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Fatal(err)
	}
	shoff := binary.LittleEndian.Uint64(good[40:])
	table := 0
	for i := range int(binary.LittleEndian.Uint16(good[60:])) {
		if elf.SectionType(binary.LittleEndian.Uint32(good[int(shoff)+64*i+4:])) == elf.SHT_DYNSYM {
			table = int(shoff) + 64*i
		}
	}
	for name, spoil := range map[string]func(d []byte) (size int64){
		"sparse":                  func([]byte) int64 { return module.MaxSize + 1 },
		"number of sections":      func(d []byte) int64 { d[60], d[61] = 0, 0; return int64(len(d)) }, // is in the first one then
		"most sections":           func(d []byte) int64 { d[60], d[61] = 0xff, 0xff; return 1 << 29 },
		"a large table":           func(d []byte) int64 { binary.LittleEndian.PutUint64(d[table+32:], 1<<28); return 1 << 29 },
		"a table that is packed":  func(d []byte) int64 { d[table+9] |= 8; return int64(len(d)) }, // SHF_COMPRESSED
		"sections far behind end": func(d []byte) int64 { d[47] = 1; return int64(len(d)) },
	} {
		d := bytes.Clone(good)
		size := spoil(d)
		if _, err := module.ELF(bytes.NewReader(d), size); !errors.Is(err, module.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
