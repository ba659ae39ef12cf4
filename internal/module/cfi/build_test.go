package cfi

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// run runs a command that must succeed.
func run(t testing.TB, pkg, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name, pkg), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// framesOf are all FDEs of a table as frames that keep what they lead to.
func framesOf(tab *Table) []Frame {
	frames := make([]Frame, len(tab.FDEs))
	for i := range frames {
		frames[i].FDE = &tab.FDEs[i]
	}
	return frames
}

func build(t testing.TB, at uint64, frames []Frame) *Unwind {
	t.Helper()
	u, err := Build(at, frames)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// parseBuilt parses the .eh_frame of u and checks that its header leads to every FDE.
func parseBuilt(t *testing.T, u *Unwind) *Table {
	t.Helper()
	at := u.Frame - u.Hdr
	tab, err := Parse(u.Bytes[at:at+u.FrameLen], u.Frame)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{1, 0x1b, 0x03, 0x3b}; !bytes.Equal(u.Bytes[:4], want) {
		t.Errorf("header begins % x, want % x", u.Bytes[:4], want)
	}
	word := func(off int) uint64 { return uint64(int32(binary.LittleEndian.Uint32(u.Bytes[off:]))) }
	if got := u.Hdr + 4 + word(4); got != u.Frame {
		t.Errorf("header leads to %#x, want %#x", got, u.Frame)
	}
	if word(8) != uint64(len(tab.FDEs)) {
		t.Fatalf("header counts %d FDEs, want %d", word(8), len(tab.FDEs))
	}
	for i := range tab.FDEs {
		f := &tab.FDEs[i]
		start, entry := u.Hdr+word(12+8*i), u.Hdr+word(16+8*i)
		if start != f.Start || entry != u.Frame+uint64(f.Off) {
			t.Errorf("header entry %d: %#x at %#x, want %#x at %#x", i, start, entry, f.Start, u.Frame+uint64(f.Off))
		}
	}
	return tab
}

func TestBuildKeepsEveryRow(t *testing.T) {
	for _, l := range systemLibraries {
		t.Run(filepath.Base(l.path), func(t *testing.T) {
			src := library(t, l.path, l.pkg)
			at := (src.FDEs[len(src.FDEs)-1].End + 0x1000000) &^ 3
			u := build(t, at, framesOf(src))
			got := parseBuilt(t, u)
			if len(got.FDEs) != len(src.FDEs) {
				t.Fatalf("%d FDEs, want %d", len(got.FDEs), len(src.FDEs))
			}
			for i := range src.FDEs {
				a, b := &src.FDEs[i], &got.FDEs[i]
				if a.Start != b.Start || a.End != b.End || a.LSDA.Value != b.LSDA.Value || a.CIE.Signal != b.CIE.Signal ||
					a.CIE.Personality.Value != b.CIE.Personality.Value || a.CIE.Personality.Indirect != b.CIE.Personality.Indirect {
					t.Fatalf("got %+v\nof %+v\nwant %+v\nof %+v", b, b.CIE, a, a.CIE)
				}
				for pc := a.Start; pc < a.End; pc += (a.End-a.Start)/16 + 1 {
					ra, errA := a.Row(pc)
					rb, errB := b.Row(pc)
					if errA != nil || errB != nil || !reflect.DeepEqual(ra, rb) {
						t.Fatalf("row at %#x: got %v, %v; want %v, %v", pc, rb, errB, ra, errA)
					}
				}
			}
			compareRows(t, got, readelf(t, elfWithFrames(t, u)))
			t.Logf("%d bytes of .eh_frame are %d, %d personalities", len(src.Data), u.FrameLen, len(u.Personalities))
		})
	}
}

// elfWithFrames returns a file with u's .eh_frame at its address.
func elfWithFrames(t *testing.T, u *Unwind) string {
	t.Helper()
	dir := t.TempDir()
	raw, out := filepath.Join(dir, "raw"), filepath.Join(dir, "out.o")
	if err := os.WriteFile(raw, u.Bytes[u.Frame-u.Hdr:], 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "binutils", "objcopy", "-I", "binary", "-O", "elf64-x86-64",
		"--rename-section", ".data=.eh_frame,alloc,readonly,data,contents",
		"--change-section-address", fmt.Sprintf(".data=%#x", u.Frame), raw, out)
	return out
}

func TestBuildReplacesPointers(t *testing.T) {
	l := systemLibraries[2]
	src := library(t, l.path, l.pkg)
	at := src.Addr + 0x100000
	var frames []Frame
	for _, f := range framesOf(src) {
		if f.FDE.LSDA.Value != 0 && f.FDE.CIE.Personality.Enc != encOmit && len(frames) < 20 {
			f.Personality, f.LSDA = at-0x8000, at-0x4000+uint64(len(frames))*8
			frames = append(frames, f)
		}
	}
	u := build(t, at, frames)
	got := parseBuilt(t, u)
	if len(got.FDEs) != 20 {
		t.Fatalf("%d FDEs, want 20", len(got.FDEs))
	}
	for i := range got.FDEs {
		f := &got.FDEs[i]
		if p := f.CIE.Personality; p.Value != frames[i].Personality || !p.Indirect || f.LSDA.Value != frames[i].LSDA {
			t.Errorf("got personality %+v, LSDA %+v; want %+v", p, f.LSDA, frames[i])
		}
	}
	for _, p := range u.Personalities {
		v := uint64(int32(binary.LittleEndian.Uint32(u.Bytes[p.At-u.Hdr:])))
		if p.At+v != p.Target || p.Target != at-0x8000 || !p.Indirect {
			t.Errorf("personality field %+v holds %#x", p, v)
		}
	}
	if len(u.Personalities) == 0 {
		t.Error("no personality fields")
	}
}

func TestBuildRefuses(t *testing.T) {
	cie := &CIE{CodeAlign: 1, DataAlign: -8, LSDAEnc: encOmit, Personality: Pointer{Enc: encOmit}}
	withP := &CIE{CodeAlign: 1, LSDAEnc: 0x1b, Personality: Pointer{Enc: 0x9b}}
	fde := func(start uint64, c *CIE, instrs ...byte) *FDE {
		return &FDE{Start: start, End: start + 16, CIE: c, Instrs: instrs}
	}
	tests := []struct {
		name   string
		at     uint64
		frames []Frame
		want   string
	}{
		{"unaligned", 0x1002, nil, "multiple of 4"},
		{"overlap", 0x1000, []Frame{{FDE: fde(0x108, cie)}, {FDE: fde(0x100, cie)}}, "overlap at 0x108"},
		{"far", 0x1000, []Frame{{FDE: fde(1<<40, cie)}}, "further than 2 GiB"},
		{"set_loc", 0x1000, []Frame{{FDE: fde(0x100, cie, cfaSetLoc, 0, 0, 0, 0, 0, 0, 0, 0)}}, "set_loc"},
		{"bad instruction", 0x1000, []Frame{{FDE: fde(0x100, cie, 0x3f)}}, "instruction 0x3f"},
		{"null personality", 0x1000, []Frame{{FDE: fde(0x100, withP)}}, "personality is null"},
		{"new personality", 0x1000, []Frame{{FDE: fde(0x100, cie), Personality: 8}}, "has none"},
		{"new LSDA", 0x1000, []Frame{{FDE: fde(0x100, cie), LSDA: 8}}, "has none"},
		{"indirect LSDA", 0x1000, []Frame{{FDE: &FDE{Start: 1, End: 2, CIE: cie, LSDA: Pointer{Value: 1, Indirect: true}}}}, "indirect"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Build(tt.at, tt.frames)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// throwSource has room for new tables and needs them: exceptions of two types
// through frames with destructors, and a backtrace.
const throwSource = `
#include <cstdio>
#include <stdexcept>
#include <execinfo.h>
asm(".section .room,\"a\"\n.balign 16\n.skip 65536\n.text");
struct D { ~D() { std::puts("destroyed"); } };
__attribute__((noinline)) void fail(int n) {
	D d;
	if (n == 0) throw std::runtime_error("zero");
	if (n == 1) throw 1;
	fail(n - 2);
	std::puts("not reached");
}
int main() {
	void *a[64];
	for (int i = 0; i < 4; i++) {
		try { fail(i); }
		catch (const std::runtime_error &e) { std::printf("caught %s\n", e.what()); }
		catch (int v) { std::printf("caught %d\n", v); }
	}
	std::printf("frames %d\n", backtrace(a, 64));
}
`

// A program whose own tables are gone throws and catches with the built ones:
// what libgcc and the C library look up is right.
func TestBuiltTablesServeExceptions(t *testing.T) {
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "throw.cc"), filepath.Join(dir, "throw")
	if err := os.WriteFile(src, []byte(throwSource), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "g++", "g++", "-O1", "-o", bin, src)
	want := run(t, "the program", bin)
	if !strings.Contains(want, "caught zero") || !strings.Contains(want, "caught 1") {
		t.Fatalf("the program says %q", want)
	}
	data, addr := section(t, bin, ".eh_frame")
	tab, err := Parse(data, addr)
	if err != nil {
		t.Fatal(err)
	}
	room, roomAddr := section(t, bin, ".room")
	u := build(t, roomAddr, framesOf(tab))
	if len(u.Bytes) > len(room) {
		t.Fatalf("%d bytes do not fit", len(u.Bytes))
	}
	without, with := filepath.Join(dir, "without"), filepath.Join(dir, "with")
	replaceTables(t, bin, without, nil)
	replaceTables(t, bin, with, u)
	if out, err := exec.Command(without).CombinedOutput(); err == nil {
		t.Errorf("without tables the program still says %q", out)
	}
	if got := run(t, "g++", with); got != want {
		t.Errorf("with the built tables the program says %q, want %q", got, want)
	}
}

// replaceTables writes a copy of bin without its unwind tables; u, unless nil, serves instead.
func replaceTables(t *testing.T, bin, out string, u *Unwind) {
	t.Helper()
	b, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".eh_frame", ".eh_frame_hdr"} {
		s := f.Section(name)
		clear(b[s.Offset : s.Offset+s.Size])
	}
	if u != nil {
		copy(b[f.Section(".room").Offset:], u.Bytes)
		phoff := binary.LittleEndian.Uint64(b[32:])
		for i, p := range f.Progs {
			if p.Type != elf.PT_GNU_EH_FRAME {
				continue
			}
			ph := b[phoff+56*uint64(i):] // Elf64_Phdr
			binary.LittleEndian.PutUint64(ph[8:], f.Section(".room").Offset)
			binary.LittleEndian.PutUint64(ph[16:], u.Hdr)
			binary.LittleEndian.PutUint64(ph[24:], u.Hdr)
			binary.LittleEndian.PutUint64(ph[32:], uint64(len(u.Bytes)))
			binary.LittleEndian.PutUint64(ph[40:], uint64(len(u.Bytes)))
		}
	}
	if err := os.WriteFile(out, b, 0o755); err != nil {
		t.Fatal(err)
	}
}
