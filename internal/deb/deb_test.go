package deb_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/deb"
)

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: apt install dpkg-dev zstd xz-utils binutils gcc", tool)
		}
	}
}

// tree makes the directory of a small package: text, links, a program, a
// set-user-ID file, a large sparse-looking file and an empty one.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte, mode fs.FileMode) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	write("DEBIAN/control", []byte("Package: sample\nVersion: 1:2.0-3+deb12u1\nSource: sample-src (2.0-3)\nArchitecture: amd64\n"+
		"Maintainer: Nobody <nobody@example.org>\nDepends: libc6 (>= 2.34),\n libssl3\nDescription: a sample\n with more\n .\n and more\n"), 0o644)
	write("usr/bin/true-copy", self, 0o755)
	write("usr/bin/suid", []byte("#!/bin/sh\n"), 0o755|fs.ModeSetuid)
	write("usr/share/sample/zeros", make([]byte, 3<<20), 0o644)
	write("usr/share/sample/empty", nil, 0o644)
	write("usr/share/sample/"+strings.Repeat("long", 60), []byte("x"), 0o644)
	write("usr/share/sample/blank and ünïcode", []byte("x"), 0o640)
	if err := os.Link(filepath.Join(root, "usr/bin/true-copy"), filepath.Join(root, "usr/bin/true-hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../bin/true-copy", filepath.Join(root, "usr/share/link")); err != nil {
		t.Fatal(err)
	}
	return root
}

// listing is what dpkg-deb --contents prints, without owner and date.
func listing(t *testing.T, p *deb.Package) []string {
	t.Helper()
	var out []string
	for {
		e, err := p.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		perm := []byte(e.Mode.Perm().String())
		for _, s := range []struct {
			bit fs.FileMode
			at  int
			c   byte
		}{{fs.ModeSetuid, 3, 's'}, {fs.ModeSetgid, 6, 's'}, {fs.ModeSticky, 9, 't'}} {
			if e.Mode&s.bit != 0 {
				perm[s.at] = s.c
				if e.Mode&(1<<(9-s.at)) == 0 {
					perm[s.at] -= 'a' - 'A'
				}
			}
		}
		path, to := "."+e.Path, ""
		switch {
		case e.Hard:
			perm[0], to = 'h', " link to ."+e.Link
		case e.Mode.IsDir():
			perm[0] = 'd'
			path = strings.TrimSuffix(path, "/") + "/"
		case e.Mode&fs.ModeSymlink != 0:
			perm[0], to = 'l', " -> "+e.Link
		}
		out = append(out, fmt.Sprintf("%s %d %s%s", perm, e.Size, path, to))
	}
}

func wantListing(t *testing.T, path string) []string {
	t.Helper()
	var out []string
	t.Setenv("LC_ALL", "C.UTF-8")
	for line := range strings.Lines(run(t, "", "dpkg-deb", "-c", path)) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Fields(line) // mode owner size date time path
		_, name, _ := strings.Cut(line, f[3]+" "+f[4]+" ")
		out = append(out, fmt.Sprintf("%s %s %s", f[0], f[2], name))
	}
	return out
}

// compare reads a package and compares all there is with what dpkg-deb says.
func compare(t *testing.T, path string) {
	t.Helper()
	p, err := deb.Open(path, deb.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var text strings.Builder
	for _, f := range p.Control.Fields {
		fmt.Fprintf(&text, "%s: %s\n", f.Name, f.Value)
		if strings.HasPrefix(f.Value, "\n") {
			t.Errorf("field %s begins with an empty line", f.Name)
		}
	}
	if diff := cmp.Diff(run(t, "", "dpkg-deb", "-f", path), text.String()); diff != "" {
		t.Errorf("control (-dpkg-deb +ours):\n%s", diff)
	}
	c := p.Control
	got := fmt.Sprintf("%s %s %s %s %s", c.Package, c.Version, c.Architecture, c.Source, c.SourceVersion)
	want := run(t, "", "dpkg-deb", "--showformat=${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}", "-W", path)
	if got != want {
		t.Errorf("package %q, want %q", got, want)
	}
	if diff := cmp.Diff(wantListing(t, path), listing(t, p)); diff != "" {
		t.Errorf("contents (-dpkg-deb +ours):\n%s", diff)
	}
}

func TestBuilt(t *testing.T) {
	need(t, "dpkg-deb")
	root := tree(t)
	for _, kind := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sample.deb")
			run(t, "", "dpkg-deb", "--root-owner-group", "--build", "-Z"+kind, root, path)
			compare(t, path)
			checkELFs(t, path, root)
		})
	}
}

// checkELFs compares the ELF files of a package with the unpacked tree.
func checkELFs(t *testing.T, path, root string) {
	t.Helper()
	type names struct {
		fs.FileInfo
		path string
	}
	want := make(map[string][32]byte)
	var seen []names
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		for _, s := range seen {
			if os.SameFile(s.FileInfo, info) {
				return nil
			}
		}
		seen = append(seen, names{info, p})
		data, err := os.ReadFile(p)
		if bytes.HasPrefix(data, []byte("\x7fELF")) {
			want[strings.TrimPrefix(p, root)] = sha256.Sum256(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][32]byte)
	for f, err := range deb.ELFs(path, deb.Limits{}) {
		if err != nil {
			t.Fatal(err)
		}
		got[f.Path] = sha256.Sum256(f.Data)
	}
	if len(want) == 0 {
		t.Error("the tree has no ELF file")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ELF files (-want +got):\n%s", diff)
	}
}

// TestReal compares over a package of the distribution.
func TestReal(t *testing.T) {
	need(t, "apt-get", "dpkg-deb")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // apt downloads as its own user
		t.Fatal(err)
	}
	cmd := exec.Command("apt-get", "download", "-qq", "libssl3")
	if out, err := exec.Command("apt-cache", "show", "libssl3").CombinedOutput(); err != nil || len(out) == 0 {
		cmd = exec.Command("apt-get", "download", "-qq", "libssl3t64")
	}
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("apt-get cannot download a package to compare with; run apt-get update first: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("apt-get downloaded %v, %v", found, err)
	}
	compare(t, found[0])
	root := t.TempDir()
	run(t, "", "dpkg-deb", "-x", found[0], root)
	checkELFs(t, found[0], root)
}

// TestXZ reads what xz writes in ways that dpkg-deb does not.
func TestXZ(t *testing.T) {
	need(t, "xz")
	var body bytes.Buffer
	w := tar.NewWriter(&body)
	for i := range 40 {
		data := bytes.Repeat([]byte(fmt.Sprintf("line %d of some text\n", i)), 400)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("./f%02d", i), Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ args, want string }{
		{"-1 --check=none", ""},
		{"-6 --check=crc32", ""},
		{"-9e --check=sha256", ""},
		{"-6 --block-size=65536 --threads=2", ""},
		{"-0 --block-size=4096 --threads=1", ""},
		{"--x86 --lzma2=preset=6", "filters other than LZMA2"},
		{"--lzma2=preset=6,dict=512MiB", "xz dictionary exceeds"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			cmd := exec.Command("xz", append([]string{"-c"}, strings.Fields(tc.args)...)...)
			cmd.Stdin = bytes.NewReader(body.Bytes())
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			n, err := drain(archive(t, "data.tar.xz", packed), deb.Limits{})
			if tc.want == "" && (err != nil || n != 40) {
				t.Errorf("%d files, %v", n, err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			if err != nil {
				return
			}
			want, err := contents(archive(t, "data.tar.xz", packed))
			if err != nil {
				t.Fatal(err)
			}
			// A wrong byte is found, or makes no difference (some bits of LZMA do not).
			for at := 0; at < len(packed); at += max(1, len(packed)/41) {
				bad := bytes.Clone(packed)
				bad[at] ^= 0x10
				if got, err := contents(archive(t, "data.tar.xz", bad)); err == nil && got != want && tc.args != "-1 --check=none" {
					t.Errorf("byte %d of %d changed and not found", at, len(packed))
				}
			}
			if _, err := drain(archive(t, "data.tar.xz", packed[:len(packed)-4]), deb.Limits{}); err == nil {
				t.Error("a cut-off stream is not found")
			}
			if _, err := drain(archive(t, "data.tar.xz", append(bytes.Clone(packed), packed...)), deb.Limits{}); err == nil {
				t.Error("a second stream is not found")
			}
		})
	}
}

const control = "Package: p\nVersion: 1\nArchitecture: all\n"

// ar makes an archive of name, content, name, content...
func ar(parts ...string) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for i := 0; i < len(parts); i += 2 {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", parts[i], 0, 0, 0, "100644", len(parts[i+1]))
		b.WriteString(parts[i+1])
		if len(parts[i+1])%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func tarOf(t testing.TB, headers ...*tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := strings.Repeat("x", int(h.Size))
		if h.Name == "./control" {
			body = control
			h.Size = int64(len(body))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func archive(t testing.TB, name string, data []byte) []byte {
	return ar("debian-binary", "2.0\n", "control.tar", tarOf(t, &tar.Header{Name: "./control", Mode: 0o644}), name, string(data))
}

// drain reads all of a package and says how many files it has.
func drain(data []byte, limits deb.Limits) (int, error) {
	p, err := deb.Read(bytes.NewReader(data), limits)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	for n := 0; ; n++ {
		e, err := p.Next()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if _, err := e.Bytes(); err != nil {
			return n, err
		}
	}
}

// contents is a digest of all paths and bytes of a package.
func contents(data []byte) (sum [32]byte, err error) {
	p, err := deb.Read(bytes.NewReader(data), deb.Limits{})
	if err != nil {
		return sum, err
	}
	defer p.Close()
	h := sha256.New()
	for {
		e, err := p.Next()
		if err == io.EOF {
			return [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, err
		}
		fmt.Fprintf(h, "%s %d\n", e.Path, e.Size)
		if _, err := io.Copy(h, e); err != nil {
			return sum, err
		}
	}
}

func TestHostile(t *testing.T) {
	ctl := tarOf(t, &tar.Header{Name: "./control", Mode: 0o644})
	file := func(name string, size int64) *tar.Header {
		return &tar.Header{Name: name, Mode: 0o644, Size: size}
	}
	link := func(kind byte, name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Linkname: to}
	}
	data := func(h ...*tar.Header) []byte { return archive(t, "data.tar", []byte(tarOf(t, h...))) }
	good := data(file("./a", 3))
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"good", good, ""},
		{"no dot", data(file("a/b", 3)), ""},
		{"not an archive", []byte("PK\x03\x04 and more"), "not an ar archive"},
		{"empty archive", ar(), "no member debian-binary"},
		{"other version", ar("debian-binary", "3.0\n"), "format version"},
		{"no data", ar("debian-binary", "2.0\n", "control.tar", ctl), "no member data.tar"},
		{"order", ar("debian-binary", "2.0\n", "data.tar", ctl), `member "data.tar" where control.tar`},
		{"stranger", ar("debian-binary", "2.0\n", "evil", "", "control.tar", ctl), `member "evil"`},
		{"underscore", ar("debian-binary", "2.0\n", "_gpg", "x", "control.tar", ctl, "data.tar", tarOf(t)), ""},
		{"slash", ar("debian-binary/", "2.0\n", "control.tar/", ctl, "data.tar/", tarOf(t)), ""},
		{"no control", ar("debian-binary", "2.0\n", "control.tar", tarOf(t, file("./md5sums", 3)), "data.tar", tarOf(t)), "no control file"},
		{"control twice", ar("debian-binary", "2.0\n", "control.tar", tarOf(t, file("./control", 0), file("./control", 0)), "data.tar", ""), "not one regular file"},
		{"control a link", ar("debian-binary", "2.0\n", "control.tar", tarOf(t, link(tar.TypeSymlink, "control", "/etc/passwd")), "data.tar", ""), "not one regular file"},
		{"bzip2", archive(t, "data.tar.bz2", nil), `compression "bz2" is not supported`},
		{"gzip garbage", archive(t, "data.tar.gz", []byte("garbage garbage")), "gzip: invalid header"},
		{"xz garbage", archive(t, "data.tar.xz", []byte("garbage garbage")), "malformed xz"},
		{"zstd garbage", archive(t, "data.tar.zst", []byte("garbage garbage")), "magic number"},
		{"cut off", good[:len(good)-1024-512], "unexpected EOF"},
		{"parent", data(file("./a/../../etc/shadow", 3)), "unsafe path"},
		{"absolute", data(file("/etc/shadow", 3)), "unsafe path"},
		{"hard link to parent", data(link(tar.TypeLink, "./a", "../etc/shadow")), "unsafe path"},
		{"symlink anywhere", data(link(tar.TypeSymlink, "./a", "../../etc/shadow")), ""},
		{"file too large", data(file("./a", 70)), "file exceeds 64 bytes"},
		{"data too large", data(file("./a", 60), file("./b", 60), file("./c", 9000)), "data.tar exceeds 8192 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := drain(tc.data, deb.Limits{Member: 64, Data: 8192})
			if tc.want == "" && err != nil {
				t.Error(err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	var limit *deb.LimitError
	if _, err := drain(data(file("./a", 70)), deb.Limits{Member: 64}); !errors.As(err, &limit) || limit.Limit != 64 {
		t.Errorf("error %v is no LimitError of 64 bytes", err)
	}
}

// TestBomb: a small archive that unpacks to more than is allowed ends early.
func TestBomb(t *testing.T) {
	need(t, "gzip", "xz", "zstd")
	for tool, name := range map[string]string{"gzip": "data.tar.gz", "xz": "data.tar.xz", "zstd": "data.tar.zst"} {
		cmd := exec.Command("sh", "-c", "head -c 20000000 /dev/zero | "+tool+" -c")
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		// Zero blocks end a tar archive; what follows them counts too.
		var limit *deb.LimitError
		if _, err := drain(archive(t, name, packed), deb.Limits{Data: 1 << 20}); !errors.As(err, &limit) {
			t.Errorf("%s: error %v, want a limit", tool, err)
		}
	}
}

func TestControl(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"good", control + "Source: s (1.0)\n", ""},
		{"continuation first", " x\n" + control, "begins with a continuation"},
		{"twice", control + "PACKAGE: q\n", "line 4"},
		{"no colon", control + "rubbish\n", "line 4"},
		{"blank in name", control + "a b: c\n", "line 4"},
		{"two paragraphs", control + "\n" + control, "line 4"},
		{"no version", "Package: p\nArchitecture: all\n", "without Version"},
		{"empty", "", "line 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := deb.ParseControl(tc.text)
			if tc.want == "" && (err != nil || c.Source != "s" || c.SourceVersion != "1.0" || c.Field("pACKAGE") != "p") {
				t.Errorf("%+v, %v", c, err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(archive(f, "data.tar", []byte(tarOf(f, &tar.Header{Name: "./a", Mode: 0o644, Size: 3}))))
	// The committed corpus holds small packages of every compression.
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := drain(data, deb.Limits{Data: 1 << 20, Member: 1 << 16, Control: 1 << 20}); err == io.EOF {
			t.Error("an error that looks like the end")
		}
	})
}

// FuzzXZ reads streams of xz whose block header has the checksum that belongs
// to it.
func FuzzXZ(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		const start = 12 // of the first block header: the stream header's size
		if len(stream) > start {
			if end := start + 4*int(stream[start]); end+4 <= len(stream) {
				stream = bytes.Clone(stream)
				binary.LittleEndian.PutUint32(stream[end:], crc32.ChecksumIEEE(stream[start:end]))
			}
		}
		if _, err := drain(archive(t, "data.tar.xz", stream), deb.Limits{Data: 1 << 20, Member: 1 << 16, Control: 1 << 20}); err == io.EOF {
			t.Error("an error that looks like the end")
		}
	})
}

func FuzzControl(f *testing.F) {
	f.Add(control)
	f.Add(control + "Source: s (2:1-1)\nDescription: a\n b\n .\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := deb.ParseControl(text); err == nil && (c.Package == "" || c.Version == "" || c.Source == "" || c.SourceVersion == "") {
			t.Errorf("%+v", c)
		}
	})
}
