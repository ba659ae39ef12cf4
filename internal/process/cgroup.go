package process

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MemoryRoom is how many bytes may still be charged to the memory cgroups of
// the process, and the group that has the least; page cache counts as free,
// since the kernel takes it back first. Without a limit, or a way to know it,
// it is math.MaxInt64. Reserves of the processors count as used: up to 256 KiB
// each (MEMCG_CHARGE_BATCH, include/linux/memcontrol.h).
func (p *Process) MemoryRoom() (room int64, group string, err error) {
	own, err := p.file("cgroup")
	if err != nil {
		return 0, "", fmt.Errorf("read cgroups of process %d: %w", p.Pid, err)
	}
	hierarchies, err := p.cache.hierarchies()
	if err != nil {
		return 0, "", err
	}
	room = math.MaxInt64
	for _, h := range hierarchies {
		dir, ok := h.dirOf(own)
		for ; ok && len(dir) >= len(h.mount); dir = path.Dir(dir) {
			if n := p.cache.rooms.of(&h, dir); n < room {
				room, group = n, dir
			}
		}
	}
	return room, group, nil
}

// plenty is what may be left, in bytes, without that it matters how much it is.
const plenty = 256 << 20

// rooms keeps for a moment what groups had left that had plenty: many processes
// are in one.
type rooms struct {
	mu   sync.Mutex
	left map[string]int64
	read time.Time
}

func (s *rooms) of(h *hierarchy, dir string) int64 {
	const moment = 20 * time.Millisecond
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) > moment {
		s.left, s.read = make(map[string]int64), time.Now()
	}
	if n := s.left[dir]; n > plenty {
		return n
	}
	n, ok := h.room(dir)
	if !ok {
		n = math.MaxInt64
	}
	s.left[dir] = n
	return n
}

// hierarchy is a mounted hierarchy of cgroups that may have a limit of memory.
type hierarchy struct {
	root, mount               string
	version                   int
	limit, used, stat1, stat2 string // files, and lines of memory.stat
}

// memoryHierarchies lists what is mounted where this program is.
func memoryHierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseHierarchies(mounts), nil
}

// parseHierarchies picks them from mountinfo: proc_pid_mountinfo(5).
func parseHierarchies(mountinfo []byte) []hierarchy {
	var out []hierarchy
	for line := range strings.Lines(string(mountinfo)) {
		l, r, _ := strings.Cut(line, " - ")
		at, fs := strings.Fields(l), strings.Fields(r)
		if len(at) < 5 || len(fs) < 3 {
			continue
		}
		switch {
		case fs[0] == "cgroup2":
			out = append(out, hierarchy{at[3], at[4], 2, "memory.max", "memory.current", "inactive_file", "active_file"})
		case fs[0] == "cgroup" && slices.Contains(strings.Split(fs[2], ","), "memory"):
			out = append(out, hierarchy{at[3], at[4], 1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file"})
		}
	}
	return out
}

// dirOf is the directory of the group that /proc/PID/cgroup (cgroups(7)) names.
func (h *hierarchy) dirOf(own []byte) (string, bool) {
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 || (h.version == 2) != (f[0] == "0") || h.version == 1 && !slices.Contains(strings.Split(f[1], ","), "memory") {
			continue
		}
		rest, ok := strings.CutPrefix(f[2], strings.TrimSuffix(h.root, "/"))
		return path.Join(h.mount, path.Clean("/"+rest)), ok
	}
	return "", false
}

// room is what one group has left, or when that is plenty what it has at least;
// false when it has no limit.
func (h *hierarchy) room(dir string) (int64, bool) {
	number := func(file string) (int64, bool) {
		b, err := readName(path.Join(dir, file))
		n, perr := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
		return n, err == nil && perr == nil // "max" is no limit
	}
	limit, ok := number(h.limit)
	if !ok {
		return 0, false
	}
	used, ok := number(h.used)
	if ok && limit-used > plenty {
		return limit - used, true
	}
	stat, err := readName(path.Join(dir, "memory.stat"))
	if !ok || err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(stat)) {
		if f := strings.Fields(line); len(f) == 2 && (f[0] == h.stat1 || f[0] == h.stat2) {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			used -= n
		}
	}
	return limit - used, true
}
