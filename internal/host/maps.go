package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A mapping is an executable mapping of a file.
type mapping struct {
	name    string // start-end in hex, as in map_files
	path    string // as the kernel prints it, without its mark for deleted files
	deleted bool   // the mark was there
}

// deletedMark is what the kernel puts behind the path of a file without a
// name (d_path). A file may also be called so.
const deletedMark = " (deleted)"

// parseMaps reads /proc/PID/maps (proc_pid_maps(5)) and keeps the first
// executable mapping of every file. What never is a file on disk (memfd, SysV
// and anonymous shared memory) is left out. Executable memory of no file
// between two mappings of one is a copy of its code, as programs make that
// want it on large pages: then the mapping before it is kept.
func parseMaps(r io.Reader) ([]mapping, error) {
	var (
		out  []mapping
		prev []byte // the line before
		file *line  // what lies before memory that may be a copy, until the line behind it has been read
	)
	seen := make(map[fileID]bool)
	keep := func(l *line) {
		if !seen[l.file] {
			seen[l.file] = true
			out = append(out, mapping{l.name, l.file.path, l.file.deleted})
		}
	}
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 8<<10), 64<<10)
	for s.Scan() {
		text := s.Bytes()
		exec, err := executable(text)
		if err != nil {
			return nil, err
		}
		if exec || file != nil {
			l, err := parseLine(text)
			if err != nil {
				return nil, err
			}
			if file != nil && l.file == file.file && !exec {
				keep(file)
			}
			file = nil
			switch {
			case exec && l.isFile():
				keep(&l)
			case exec && len(prev) > 0:
				if p, err := parseLine(prev); err == nil && p.isFile() && p.end == l.start {
					file = &p
				}
			}
		}
		prev = append(prev[:0], text...)
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = errors.New("line too long")
		}
		return nil, fmt.Errorf("read maps: %w", err)
	}
	return out, nil
}

// executable reports whether a line of maps is of executable memory: for most
// lines nothing else is looked at.
func executable(text []byte) (bool, error) {
	_, rest, ok := bytes.Cut(text[:min(len(text), 80)], []byte(" "))
	if !ok || len(rest) < 4 {
		return false, fmt.Errorf("maps line %.80q", text)
	}
	return rest[2] == 'x', nil
}

// A fileID tells a mapped file from others in one list of mappings.
type fileID struct {
	dev, ino, path string
	deleted        bool
}

// A line of maps.
type line struct {
	name       string // as in map_files
	start, end string
	file       fileID // path is empty for memory of no file
}

// isFile reports whether the memory is of a file that is, or was, on a disk.
func (l *line) isFile() bool {
	return strings.HasPrefix(l.file.path, "/") && l.file.ino != "0" && !(l.file.deleted && fileless(l.file.path))
}

// parseLine reads "start-end perms offset dev inode path".
func parseLine(text []byte) (l line, err error) {
	f := strings.SplitN(string(text), " ", 6)
	name, ok := rangeName(f[0])
	if len(f) < 5 || !ok {
		return l, fmt.Errorf("maps line %.80q", text)
	}
	l.name = name
	l.start, l.end, _ = strings.Cut(name, "-")
	l.file.dev, l.file.ino = f[3], f[4]
	if len(f) == 6 {
		l.file.path = strings.ReplaceAll(strings.TrimLeft(f[5], " "), `\012`, "\n")
		l.file.path, l.file.deleted = strings.CutSuffix(l.file.path, deletedMark)
	}
	return l, nil
}

// rangeName turns "start-end" of maps, padded with zeros, into the name in
// map_files, which is not (fs/proc/base.c).
func rangeName(s string) (string, bool) {
	a, b, ok := strings.Cut(s, "-")
	start, err1 := strconv.ParseUint(a, 16, 64)
	end, err2 := strconv.ParseUint(b, 16, 64)
	return fmt.Sprintf("%x-%x", start, end), ok && err1 == nil && err2 == nil && start < end
}

// fileless reports whether a deleted path names memory that never was a file
// (mm/shmem.c, ipc/shm.c, fs/aio.c).
func fileless(path string) bool {
	for _, p := range []string{"/memfd:", "/SYSV", "/dev/zero", "/anon_hugepage", "/[aio]", "/drm mm object", "/i915"} {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}
