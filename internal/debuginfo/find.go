package debuginfo

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
)

// maxFile is the largest file with debug information that is read, in bytes.
const maxFile = 1 << 30

// Places is where debug information is looked for.
type Places struct {
	Root    string        // folder with .build-id, usually /usr/lib/debug
	Servers []string      // of debuginfod, as URLs
	Timeout time.Duration // for one file of a server
	// Open opens a regular file for reading; nil opens those of this program's
	// own root. The build tells what is opened: it must have no other effect.
	Open func(path string) (*os.File, error)
}

// Usual are the places that debuggers look in: servers only when
// DEBUGINFOD_URLS names some (debuginfod(8)).
func Usual() Places {
	p := Places{Root: "/usr/lib/debug", Servers: strings.Fields(os.Getenv("DEBUGINFOD_URLS")), Timeout: 20 * time.Second}
	if n, err := strconv.Atoi(os.Getenv("DEBUGINFOD_TIMEOUT")); err == nil && n > 0 {
		p.Timeout = time.Duration(n) * time.Second
	}
	return p
}

// Find reads the debug information of a build: of the file itself, of the
// separate file of its build-id, of the one that .gnu_debuglink names, or of
// a server (GDB manual, Debugging Information in Separate Files). It is
// ErrNone when there is none anywhere.
func (p Places) Find(ctx context.Context, m *module.Module) (*Info, error) {
	var first error
	for _, look := range append([]func() ([]byte, string){
		func() ([]byte, string) { return m.File(), m.Path },
	}, p.apart(ctx, m)...) {
		data, path := look()
		if data == nil {
			continue
		}
		alt := p.alternate(ctx, data, path)
		info, err := Read(data, alt)
		if err == nil {
			return info, nil
		}
		if first == nil && !errors.Is(err, ErrNone) {
			first = err
		}
	}
	if first == nil {
		first = ErrNone
	}
	return nil, first
}

// Apart is the separate file with the debug information of a build, nil when
// there is none.
func (p Places) Apart(ctx context.Context, m *module.Module) []byte {
	for _, look := range p.apart(ctx, m) {
		if data, _ := look(); data != nil {
			return data
		}
	}
	return nil
}

// apart are the ways to find it, in their order.
func (p Places) apart(ctx context.Context, m *module.Module) []func() ([]byte, string) {
	return []func() ([]byte, string){
		func() ([]byte, string) { return p.byID(m.Identity.BuildID) },
		func() ([]byte, string) { return p.byLink(m) },
		func() ([]byte, string) { return p.fetch(ctx, m.Identity.BuildID), "" },
	}
}

// read is a regular file of bounded size, or nil.
func (p Places) read(path string) []byte {
	open := p.Open
	if open == nil {
		open = plain
	}
	f, err := open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil
	}
	return data
}

// plain opens a file; a device or a pipe must not notice.
func plain(path string) (*os.File, error) {
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file (%w)", path, err)
	}
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

func (p Places) byID(id string) ([]byte, string) {
	if len(id) < 4 || p.Root == "" {
		return nil, ""
	}
	path := filepath.Join(p.Root, ".build-id", id[:2], id[2:]+".debug")
	data := p.read(path)
	if data == nil || buildID(data) != id {
		return nil, ""
	}
	return data, path
}

// byLink follows .gnu_debuglink: a name, padding to four bytes, and the CRC of
// the file with that name.
func (p Places) byLink(m *module.Module) ([]byte, string) {
	link := section(m.File(), ".gnu_debuglink")
	n := bytes.IndexByte(link, 0)
	at := (n + 4) &^ 3
	if n <= 0 || len(link) < at+4 || bytes.ContainsRune(link[:n], '/') {
		return nil, ""
	}
	dir, name := filepath.Dir(m.Path), string(link[:n])
	for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, ".debug", name), filepath.Join(p.Root, dir, name)} {
		data := p.read(path)
		want := uint32(link[at]) | uint32(link[at+1])<<8 | uint32(link[at+2])<<16 | uint32(link[at+3])<<24
		if data != nil && crc32.ChecksumIEEE(data) == want {
			return data, path
		}
	}
	return nil, ""
}

// alternate is the file that .gnu_debugaltlink names: a path, and its build-id (dwz(1)).
func (p Places) alternate(ctx context.Context, data []byte, path string) []byte {
	link := section(data, ".gnu_debugaltlink")
	n := bytes.IndexByte(link, 0)
	if n <= 0 {
		return nil
	}
	name, id := string(link[:n]), hex.EncodeToString(link[n+1:])
	paths := []string{name}
	if !filepath.IsAbs(name) {
		paths = []string{filepath.Join(filepath.Dir(path), name)}
	}
	for _, path := range append(paths, filepath.Join(p.Root, ".dwz", filepath.Base(name))) {
		alt := p.read(path)
		if alt != nil && buildID(alt) == id {
			return alt
		}
	}
	if alt, _ := p.byID(id); alt != nil {
		return alt
	}
	return p.fetch(ctx, id)
}

// fetch asks the servers for the debug information of a build-id.
func (p Places) fetch(ctx context.Context, id string) []byte {
	if len(id) < 8 {
		return nil
	}
	for _, server := range p.Servers {
		data, err := p.get(ctx, fmt.Sprintf("%s/buildid/%s/debuginfo", strings.TrimSuffix(server, "/"), id))
		if err != nil {
			continue
		}
		if buildID(data) == id {
			return data
		}
	}
	return nil
}

func (p Places) get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxFile+1))
	if err != nil || len(data) > maxFile {
		return nil, fmt.Errorf("%s: too large or broken off: %w", url, err)
	}
	return data, nil
}

// buildID is the build-id of a file, by its section: the program headers of a
// separate file lead nowhere.
func buildID(data []byte) string {
	n := section(data, ".note.gnu.build-id")
	const head = 16 // sizes of name and descriptor, type, "GNU\x00"
	if len(n) < head || string(n[12:head]) != "GNU\x00" {
		return ""
	}
	size := int(binary.LittleEndian.Uint32(n[4:]))
	if size <= 0 || size > len(n)-head {
		return ""
	}
	return hex.EncodeToString(n[head : head+size])
}

// section is a section of an ELF file that is not compressed, or nil.
func section(data []byte, name string) []byte {
	const most = 1 << 16
	if len(data) < 64 || int(data[60])|int(data[61])<<8 > maxSections {
		return nil
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	s := f.Section(name)
	if s == nil || s.Size > most {
		return nil
	}
	b, err := s.Data()
	if err != nil {
		return nil
	}
	return b
}
