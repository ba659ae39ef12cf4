// Package deb reads Debian packages (.deb, deb(5)): the control fields and the
// files inside. It unpacks nothing to disk, streams, and holds hostile input
// to bounds. Installed packages are not its matter.
package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Limits bound what a package may make the reader do; zero means the default.
type Limits struct {
	Data    int64 // bytes of data.tar, uncompressed; 4 GiB
	Member  int64 // bytes of one file read into memory; 256 MiB
	Control int64 // bytes of control.tar, uncompressed; 64 MiB
}

func (l Limits) orDefault() Limits {
	for _, v := range []struct {
		p *int64
		d int64
	}{{&l.Data, 4 << 30}, {&l.Member, 256 << 20}, {&l.Control, 64 << 20}} {
		if *v.p == 0 {
			*v.p = v.d
		}
	}
	return l
}

// A LimitError says that a package asks for more than a limit allows.
type LimitError struct {
	What  string
	Limit int64 // bytes
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s exceeds %d bytes", e.What, e.Limit) }

// A Package is a .deb that is being read: its control file has been read, its
// files follow one by one with Next.
type Package struct {
	Control *Control

	name   string // for errors
	limits Limits
	body   io.ReadCloser
	data   *tar.Reader
	file   io.Closer
	total  int64 // bytes of all files so far
	err    error
}

// An Entry is one file of a package. Its bytes can be read until Next.
type Entry struct {
	Path    string // absolute and clean: /usr/bin/hello
	Mode    fs.FileMode
	Size    int64  // bytes; 0 for what is no regular file
	Link    string // target of a symbolic link as written; absolute path of the other name of a hard link
	Hard    bool   // a hard link: it has no bytes of its own
	ModTime time.Time

	r     io.Reader
	limit int64
}

// Read reads the file's bytes.
func (e *Entry) Read(p []byte) (int, error) { return e.r.Read(p) }

// Bytes reads the whole file, up to Limits.Member.
func (e *Entry) Bytes() ([]byte, error) {
	if e.Size > e.limit {
		return nil, fmt.Errorf("read %s: %w", e.Path, &LimitError{"file", e.limit})
	}
	b, err := io.ReadAll(io.LimitReader(e.r, e.limit))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.Path, err)
	}
	return b, nil
}

// Open opens the package at path. Close it.
func Open(path string, limits Limits) (*Package, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	p, err := read(f, path, limits)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p.file = f
	return p, nil
}

// Read reads a package from r, up to where its files begin. Close it.
func Read(r io.Reader, limits Limits) (*Package, error) {
	return read(r, "package", limits)
}

func read(r io.Reader, name string, limits Limits) (*Package, error) {
	p := &Package{name: name, limits: limits.orDefault()}
	if err := p.open(bufio.NewReaderSize(r, 1<<16)); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return p, nil
}

// open goes through the members in the order that deb(5) demands:
// debian-binary, control.tar, data.tar; others only with an underscore.
func (p *Package) open(r io.Reader) error {
	ar, err := newArReader(r)
	if err != nil {
		return err
	}
	if _, err := member(ar, "debian-binary"); err != nil {
		return err
	}
	version, err := io.ReadAll(io.LimitReader(ar, 16))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(version), "2.") {
		return fmt.Errorf("format version \"%s\", not 2.x", version)
	}
	ext, err := member(ar, "control.tar")
	if err != nil {
		return err
	}
	if p.Control, err = readControl(ar, ext, p.limits.Control); err != nil {
		return fmt.Errorf("control.tar%s: %w", ext, err)
	}
	if ext, err = member(ar, "data.tar"); err != nil {
		return err
	}
	if p.body, err = decompress(ar, ext, "data.tar", p.limits.Data); err != nil {
		return fmt.Errorf("data.tar%s: %w", ext, err)
	}
	p.data = tar.NewReader(p.body)
	return nil
}

// member goes to the member of that name and gives what its name has besides.
func member(ar *arReader, want string) (ext string, err error) {
	for {
		name, err := ar.next()
		if err == io.EOF {
			return "", fmt.Errorf("no member %s", want)
		}
		if err != nil {
			return "", err
		}
		ext, ok := strings.CutPrefix(name, want)
		switch {
		case ok && (ext == "" || ext[0] == '.'):
			return ext, nil
		case !strings.HasPrefix(name, "_"):
			return "", fmt.Errorf("member \"%s\" where %s is due", name, want)
		}
	}
}

func readControl(r io.Reader, ext string, limit int64) (*Control, error) {
	body, err := decompress(r, ext, "control.tar", limit)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var c *Control
	for t := tar.NewReader(body); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if strings.TrimPrefix(h.Name, "./") != "control" {
			continue
		}
		if h.Typeflag != tar.TypeReg || c != nil {
			return nil, errors.New("control is not one regular file")
		}
		const most = 1 << 20
		if h.Size > most {
			return nil, &LimitError{"control file", most}
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		if c, err = ParseControl(string(text)); err != nil {
			return nil, err
		}
	}
	if c == nil {
		return nil, errors.New("no control file")
	}
	_, err = io.Copy(io.Discard, body) // to the checksum
	return c, err
}

// decompress gives the bytes of a member by the ending of its name, and an
// error after limit of them.
func decompress(r io.Reader, ext, what string, limit int64) (io.ReadCloser, error) {
	l := &limitReader{what: what, left: limit, limit: limit}
	switch ext {
	case "":
		l.ReadCloser = io.NopCloser(r)
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		l.ReadCloser = z
	case ".xz":
		z, err := newXZReader(r)
		if err != nil {
			return nil, err
		}
		l.ReadCloser = io.NopCloser(z)
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxDict))
		if err != nil {
			return nil, err
		}
		l.ReadCloser = z.IOReadCloser()
	default:
		return nil, fmt.Errorf("compression \"%s\" is not supported", strings.TrimPrefix(ext, "."))
	}
	return l, nil
}

// limitReader fails, rather than ends, after so many bytes.
type limitReader struct {
	io.ReadCloser
	what        string
	left, limit int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, &LimitError{l.what, l.limit}
	}
	return n, err
}

// Next goes to the next file; io.EOF after the last, once the checksums of
// the whole are found right. Errors stay.
func (p *Package) Next() (*Entry, error) {
	if p.err != nil {
		return nil, p.err
	}
	e, err := p.next()
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read %s: data.tar: %w", p.name, err)
	}
	p.err = err
	return e, err
}

func (p *Package) next() (*Entry, error) {
	h, err := p.data.Next()
	if err == io.EOF {
		if _, err := io.Copy(io.Discard, p.body); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if err != nil {
		return nil, err
	}
	e := &Entry{Mode: h.FileInfo().Mode(), ModTime: h.ModTime, r: p.data, limit: p.limits.Member}
	if e.Path, err = clean(h.Name); err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		// A sparse file claims more bytes than the archive holds.
		e.Size = h.Size
		if p.total += h.Size; p.total > p.limits.Data {
			return nil, &LimitError{"data.tar", p.limits.Data}
		}
	case tar.TypeLink:
		e.Hard = true
		if e.Link, err = clean(h.Linkname); err != nil {
			return nil, err
		}
	case tar.TypeSymlink:
		e.Link = h.Linkname
	}
	return e, nil
}

// clean makes the name of a tar entry absolute, and refuses one that leads
// elsewhere than it seems.
func clean(name string) (string, error) {
	if strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || name == "" {
		return "", fmt.Errorf("unsafe path \"%s\"", name)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("unsafe path \"%s\"", name)
		default:
			parts = append(parts, part)
		}
	}
	return "/" + strings.Join(parts, "/"), nil
}

// Close frees what reading holds.
func (p *Package) Close() error {
	err := p.body.Close()
	if p.file != nil {
		err = errors.Join(err, p.file.Close())
	}
	return err
}
