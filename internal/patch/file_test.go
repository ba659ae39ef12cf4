package patch_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// example is a small patch with everything a file can hold.
func example() *patch.Patch {
	page := func(b byte) []byte { return bytes.Repeat([]byte{b}, patch.PageSize) }
	return &patch.Patch{
		Module:   "libexample.so.1",
		Baseline: module.Identity{BuildID: "01", Digest: strings.Repeat("ab", 32)},
		Fixed:    module.Identity{BuildID: "02", Digest: strings.Repeat("cd", 32)},
		Tool:     "test",
		Pieces: []patch.Piece{
			{Addr: 0x1000, Prot: patch.ReadExec, Bytes: page(0xcc)},
			{Addr: 0x2000, Prot: patch.ReadOnly, Bytes: page(0)},
			{Addr: 0x3000, Prot: patch.ReadWrite, Bytes: append(page(1), page(2)...)},
		},
		Fixups: []patch.Fixup{
			{At: 0x1001, Kind: patch.RelBaseline, Target: 0x4567},
			{At: 0x2000, Kind: patch.AbsBaseline, Target: 0x4560},
			{At: 0x2008, Kind: patch.AbsOverlay, Target: 0x3000},
			{At: 0x2010, Kind: patch.AbsImport, Import: 0},
		},
		Imports:    []patch.Import{{Name: "malloc", Version: "GLIBC_2.2.5", Func: true}},
		Steers:     []patch.Steer{{Name: "parse", At: 0x1104, To: 0x1000, Old: patch.JumpBytes{1, 2, 3, 4, 5}}},
		Old:        []patch.OldFunc{{Name: "parse", Ranges: []module.Range{{Start: 0x1100, End: 0x1180}}, Digest: patch.Digest{1, 2}}},
		Functions:  []patch.Function{{Name: "parse", Why: "body differs", Ranges: []module.Range{{Start: 0x1000, End: 0x1080}}, Fixed: []module.Range{{Start: 0x7000, End: 0x7080}}, Old: 0x1100, Steered: true}},
		Omissions:  []patch.Omission{{Name: "version", Reason: "version text", Detail: "x"}},
		EHFrameHdr: 0x2020, Header: 0x2f80, HeaderLen: 128, Escapes: true, EntryAllowed: true, EntryWhy: "one", Pairs: [][2]module.Addr{{1, 2}},
	}
}

func encode(t testing.TB, p *patch.Patch) []byte {
	t.Helper()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	p := example()
	data := encode(t, p)
	standardTools(t, data)
	q, err := patch.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(p, q); d != "" {
		t.Errorf("read back (-written +read):\n%s", d)
	}
	if again := encode(t, q); !bytes.Equal(data, again) {
		t.Error("encoding what was read gives other bytes")
	}
}

// TestRules breaks one rule at a time.
func TestRules(t *testing.T) {
	for name, spoil := range map[string]func(p *patch.Patch){
		"piece off a page":           func(p *patch.Patch) { p.Pieces[1].Addr += 8 },
		"pieces overlap":             func(p *patch.Patch) { p.Pieces[1].Addr = 0x1000 },
		"piece far away":             func(p *patch.Patch) { p.Pieces[2].Addr = 1 << 50 },
		"piece of half a page":       func(p *patch.Patch) { p.Pieces[0].Bytes = p.Pieces[0].Bytes[:100] },
		"empty piece":                func(p *patch.Patch) { p.Pieces[0].Bytes = nil },
		"unknown protection":         func(p *patch.Patch) { p.Pieces[2].Prot = 7 },
		"fixup outside":              func(p *patch.Patch) { p.Fixups[0].At = 0x9000 },
		"fixup runs out":             func(p *patch.Patch) { p.Fixups[1].At = 0x4ffc },
		"fixup across a gap":         func(p *patch.Patch) { p.Fixups[1].At = 0x1ffc },
		"unknown fixup":              func(p *patch.Patch) { p.Fixups[1].Kind = 9 },
		"import out of range":        func(p *patch.Patch) { p.Fixups[3].Import = 1 },
		"import negative":            func(p *patch.Patch) { p.Fixups[3].Import = -1 },
		"steered to data":            func(p *patch.Patch) { p.Steers[0].To = 0x2000 },
		"steered nowhere":            func(p *patch.Patch) { p.Steers[0].To = 0x8000 },
		"steered in other code":      func(p *patch.Patch) { p.Steers[0].At = 0x1180 },
		"steered before the code":    func(p *patch.Patch) { p.Steers[0].At = 0x10ff },
		"steered twice":              func(p *patch.Patch) { p.Steers = append(p.Steers, p.Steers[0]); p.Steers[1].At += 4 },
		"old code without end":       func(p *patch.Patch) { p.Old[0].Ranges[0].End = 1 << 39 },
		"old function of no size":    func(p *patch.Patch) { p.Old[0].Ranges[0].End = 0x1100 },
		"old function without range": func(p *patch.Patch) { p.Old[0].Ranges = nil },
		"unwind tables outside":      func(p *patch.Patch) { p.EHFrameHdr = 0x4ff8 },
		"fixup at the last address":  func(p *patch.Patch) { p.Fixups[1].At = 1<<64 - 8 },
		"no header":                  func(p *patch.Patch) { p.HeaderLen = 0 },
		"header outside":             func(p *patch.Patch) { p.Header = 0x2fc0 },
		"nothing steered":            func(p *patch.Patch) { p.Steers = nil },
		"no baseline":                func(p *patch.Patch) { p.Baseline.Digest = "" },
		"no fixed build":             func(p *patch.Patch) { p.Fixed.Digest = "" },
	} {
		t.Run(name, func(t *testing.T) {
			p := example()
			spoil(p)
			if _, err := patch.Read(encode(t, p)); !errors.Is(err, patch.ErrFormat) {
				t.Errorf("Read: %v, want ErrFormat", err)
			}
		})
	}
}

// TestDamage changes the file itself.
func TestDamage(t *testing.T) {
	good := encode(t, example())
	f, err := elf.NewFile(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	shoff := binary.LittleEndian.Uint64(good[40:])
	header := func(d []byte, i int) []byte { return d[shoff+uint64(64*i):] }
	number := func(name string) int {
		for i, s := range f.Sections {
			if s.Name == name {
				return i
			}
		}
		t.Fatal("no section " + name)
		return 0
	}
	meta, exec := number(".hotpatch"), number(".text.1000")
	for name, spoil := range map[string]func(d []byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"not ELF":           func(d []byte) []byte { d[0]++; return d },
		"32 bits":           func(d []byte) []byte { d[4] = 1; return d },
		"big-endian":        func(d []byte) []byte { d[5] = 2; return d },
		"other format":      func(d []byte) []byte { return bytes.Replace(d, []byte(`"Format": 1`), []byte(`"Format": 9`), 1) },
		"not JSON":          func(d []byte) []byte { d[f.Sections[meta].Offset] = '?'; return d },
		"compressed":        func(d []byte) []byte { header(d, meta)[9] |= 8; return d },
		"huge section":      func(d []byte) []byte { header(d, meta)[39] = 0x40; return d },
		"many sections":     func(d []byte) []byte { binary.LittleEndian.PutUint16(d[60:], 60000); return d },
		"sections outside":  func(d []byte) []byte { d[47] = 1; return d },
		"code at elsewhere": func(d []byte) []byte { header(d, exec)[17]++; return d },
		"code left out":     func(d []byte) []byte { header(d, exec)[8] = 0; return d },
		"code as no bits":   func(d []byte) []byte { header(d, exec)[4] = 8; return d },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := patch.Read(sealed(spoil(bytes.Clone(good)))); !errors.Is(err, patch.ErrFormat) {
				t.Errorf("Read: %v, want ErrFormat", err)
			}
		})
	}
	for n := range len(good) / 97 {
		if _, err := patch.Read(sealed(good[:n*97])); !errors.Is(err, patch.ErrFormat) {
			t.Fatalf("Read of the first %d bytes: %v, want ErrFormat", n*97, err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		d := bytes.Clone(good)
		at := r.IntN(len(d))
		d[at] ^= 1 << r.IntN(8)
		if _, err := patch.Read(d); !errors.Is(err, patch.ErrFormat) {
			t.Fatalf("one bit of byte %d flipped: %v, want ErrFormat", at, err)
		}
	}
	for i := range 3000 {
		d := bytes.Clone(good)
		for range 1 + i%4 {
			d[r.IntN(len(d))] = byte(r.Uint32())
		}
		if p, err := patch.Read(sealed(d)); err != nil && !errors.Is(err, patch.ErrFormat) {
			t.Fatalf("damage %d: %v", i, err)
		} else if err == nil && len(p.Steers) == 0 {
			t.Fatalf("damage %d: a patch that steers nothing", i)
		}
	}
}

// sealed gives a file whose content was changed the digest that belongs to it.
func sealed(data []byte) []byte {
	body := data[:max(0, len(data)-sha256.Size)]
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func FuzzRead(f *testing.F) {
	f.Add(encode(f, example()))
	small := example()
	small.Pieces, small.Fixups, small.EHFrameHdr = small.Pieces[:2], small.Fixups[:1], 0
	f.Add(encode(f, small))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := patch.Read(sealed(data))
		if err != nil {
			if !errors.Is(err, patch.ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		q, err := patch.Read(again)
		if err != nil {
			t.Fatal(fmt.Errorf("what was read cannot be read again: %w", err))
		}
		if d := cmp.Diff(p, q); d != "" {
			t.Fatal(d)
		}
	})
}

// TestOpenPipe: where no patch file is, nothing waits.
func TestOpenPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, t.TempDir(), "/dev/zero"} {
		if _, err := patch.Open(path); !errors.Is(err, patch.ErrFormat) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
