package module_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/module"
)

// TestReadIdentityAgainstReadelf compares with readelf's build-id and soname,
// and with a digest made by way of debug/elf, over the system's libraries.
func TestReadIdentityAgainstReadelf(t *testing.T) {
	if _, err := exec.LookPath("readelf"); err != nil {
		t.Fatal("readelf is not installed: apt install binutils")
	}
	libs, err := filepath.Glob("/usr/lib/x86_64-linux-gnu/*.so.*")
	if err != nil || len(libs) == 0 {
		t.Skip("no libraries in /usr/lib/x86_64-linux-gnu")
	}
	ids, names := 0, 0
	for _, path := range append(libs[:min(60, len(libs))], "/bin/sh") {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		got, err := module.ReadIdentity(f, st.Size())
		if errors.Is(err, module.ErrNotELF) {
			continue // a linker script
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		soname, err := module.ReadSoname(f, st.Size())
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		out, err := exec.Command("readelf", "-nd", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want module.Identity
		if m := regexp.MustCompile(`Build ID: ([0-9a-f]+)`).FindSubmatch(out); m != nil {
			want.BuildID = string(m[1])
			ids++
		}
		wantName := ""
		if m := regexp.MustCompile(`soname: \[(.*)\]`).FindSubmatch(out); m != nil {
			wantName = string(m[1])
			names++
		}
		want.Digest = slowDigest(t, f)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		if soname != wantName {
			t.Errorf("%s: soname %q, want %q", path, soname, wantName)
		}
	}
	if ids < 10 || names < 10 {
		t.Errorf("only %d build-ids and %d sonames compared", ids, names)
	}
}

func slowDigest(t *testing.T, r io.ReaderAt) string {
	t.Helper()
	f, err := elf.NewFile(r)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		for _, v := range []uint64{p.Vaddr, p.Filesz, p.Memsz, uint64(p.Flags)} {
			if err := binary.Write(h, binary.LittleEndian, v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.Copy(h, p.Open()); err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// image is a small file with the given program headers, and tail after them.
func image(progs []elf.Prog64, tail []byte) []byte {
	var b bytes.Buffer
	h := elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64),
		Phoff: 64, Phentsize: 56, Phnum: uint16(len(progs)),
	}
	// A write to a bytes.Buffer of fixed-size values cannot fail.
	_ = binary.Write(&b, binary.LittleEndian, h)
	_ = binary.Write(&b, binary.LittleEndian, progs)
	b.Write(tail)
	return b.Bytes()
}

func TestReadIdentityMalformed(t *testing.T) {
	load := elf.Prog64{Type: uint32(elf.PT_LOAD), Filesz: 120, Memsz: 120}
	note := func(body string) []byte {
		p := elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 64 + 2*56, Filesz: uint64(len(body))}
		return image([]elf.Prog64{load, p}, []byte(body))
	}
	good := note("\x04\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00GNU\x00\xab\xcd\x00\x00")
	edit := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for _, tc := range []struct {
		name string
		data []byte
		want string // part of the error, empty for none
	}{
		{"good", good, ""},
		{"empty", nil, "not an ELF file"},
		{"script", []byte("#!/bin/sh\nexit 0\n# padding"), "not an ELF file"},
		{"header cut off", good[:40], "ELF header: unexpected EOF"},
		{"program headers cut off", good[:100], "program headers: unexpected EOF"},
		{"class", edit(elf.EI_CLASS, 9), "unknown class 9"},
		{"byte order", edit(elf.EI_DATA, 9), "unknown byte order 9"},
		{"entry size", edit(0x36, 55), "program headers of 55 bytes"},
		{"many headers", edit(0x39, 0xff), "program headers, more than"},
		{"no segment", image(nil, nil), "no loadable segment"},
		{"segment outside", image([]elf.Prog64{{Type: uint32(elf.PT_LOAD), Off: 1 << 63, Filesz: 1 << 63}}, nil), "leads out of the file"},
		{"overlap", image([]elf.Prog64{load, load, load, load}, make([]byte, 8))[:64+4*56], ""},
		{"too much overlap", image([]elf.Prog64{{Type: 1, Filesz: 200}, {Type: 1, Filesz: 200}, {Type: 1, Filesz: 200}}, nil), "segments overlap"},
		{"note outside", note("\x04\x00\x00\x00\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00\xab\xcd\x00\x00"), "note leads out"},
		{"build-id empty", note("\x04\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00GNU\x00"), "build-id of 0 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id, err := module.ReadIdentity(bytes.NewReader(tc.data), int64(len(tc.data)))
			switch {
			case tc.want == "" && err != nil:
				t.Fatal(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Fatalf("error %v, want %q", err, tc.want)
			case tc.name == "good" && id.BuildID != "abcd":
				t.Errorf("build-id %q", id.BuildID)
			}
		})
	}
}

// TestIdentityOfBuilds: a copy is the same build, one from other source is
// not, and a stripped one keeps the build-id only: its ELF header, which the
// first segment loads, says that sections are gone.
func TestIdentityOfBuilds(t *testing.T) {
	dir := t.TempDir()
	src, a, b, c := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.so"), filepath.Join(dir, "b.so"), filepath.Join(dir, "c.so")
	if err := os.WriteFile(src, []byte("int f(int x) { return x + N; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"gcc", "-shared", "-fPIC", "-g", "-DN=1", "-Wl,-soname,libf.so.1", "-o", a, src},
		{"strip", "-o", b, a},
		{"gcc", "-shared", "-fPIC", "-g", "-DN=2", "-o", c, src},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	read := func(path string) (module.Identity, string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		id, err := module.ReadIdentity(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		name, err := module.ReadSoname(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		return id, name
	}
	idA, nameA := read(a)
	idB, _ := read(b)
	idC, nameC := read(c)
	if idA.BuildID != idB.BuildID || idA == idB {
		t.Errorf("stripped: %v, want the build-id of %v and another digest", idB, idA)
	}
	if again, _ := read(a); again != idA {
		t.Errorf("read again: %v, want %v", again, idA)
	}
	if idA.BuildID == idC.BuildID || idA.Digest == idC.Digest {
		t.Errorf("another build has the same identity %v", idC)
	}
	if nameA != "libf.so.1" || nameC != "" {
		t.Errorf("sonames %q and %q", nameA, nameC)
	}
}

func FuzzReadIdentity(f *testing.F) {
	load := elf.Prog64{Type: uint32(elf.PT_LOAD), Filesz: 64}
	f.Add(image([]elf.Prog64{load, {Type: uint32(elf.PT_NOTE), Off: 176, Filesz: 20}}, []byte("\x04\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00GNU\x00\xab\xcd\x00\x00")))
	f.Add(image([]elf.Prog64{{Type: 1, Filesz: 216}, {Type: uint32(elf.PT_DYNAMIC), Off: 176, Filesz: 32}},
		[]byte("\x05\x00\x00\x00\x00\x00\x00\x00\xb0\x00\x00\x00\x00\x00\x00\x00\x0e\x00\x00\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00\x00lib.so\x00\x00")))
	f.Add([]byte("\x7fELF\x01\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := module.ReadIdentity(bytes.NewReader(data), int64(len(data)))
		if (err == nil) != (len(id.Digest) == 64) {
			t.Errorf("%v with error %v", id, err)
		}
		name, err := module.ReadSoname(bytes.NewReader(data), int64(len(data)))
		if err != nil && name != "" {
			t.Errorf("%q with error %v", name, err)
		}
	})
}
