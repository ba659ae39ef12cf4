package host

import (
	"bufio"
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
// and anonymous shared memory) is left out.
func parseMaps(r io.Reader) ([]mapping, error) {
	var out []mapping
	type key struct{ dev, ino, path string }
	seen := make(map[key]bool)
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 8<<10), 64<<10)
	for s.Scan() {
		line := s.Bytes()
		// start-end perms offset dev inode path; only perms decide for most lines.
		_, rest, ok := strings.Cut(string(line[:min(len(line), 80)]), " ")
		if !ok || len(rest) < 4 {
			return nil, fmt.Errorf("maps line %.80q", line)
		}
		if rest[2] != 'x' {
			continue
		}
		f := strings.SplitN(string(line), " ", 6)
		name, ok := rangeName(f[0])
		if len(f) < 5 || !ok {
			return nil, fmt.Errorf("maps line %.80q", line)
		}
		if len(f) < 6 || f[4] == "0" {
			continue
		}
		m := mapping{name: name, path: strings.ReplaceAll(strings.TrimLeft(f[5], " "), `\012`, "\n")}
		if !strings.HasPrefix(m.path, "/") {
			continue
		}
		m.path, m.deleted = strings.CutSuffix(m.path, deletedMark)
		k := key{f[3], f[4], m.path}
		if seen[k] || m.deleted && fileless(m.path) {
			continue
		}
		seen[k] = true
		out = append(out, m)
	}
	if err := s.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = errors.New("line too long")
		}
		return nil, fmt.Errorf("read maps: %w", err)
	}
	return out, nil
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
