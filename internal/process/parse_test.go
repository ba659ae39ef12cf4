package process

import (
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func isExited(err error) bool { return errors.Is(err, ErrExited) }

func TestParseMaps(t *testing.T) {
	in := "55d0c0a00000-55d0c0a01000 r-xp 00001000 fe:01 1234                       /usr/bin/a b\n" +
		"7f0000000000-7f0000001000 rw-s 00000000 00:05 99                         /dev/shm/x (deleted)\n" +
		"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n" +
		"7ffc00100000-7ffc00101000 ---p 00000000 00:00 0 \n"
	got, err := parseMaps([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mapping{
		{Range: Range{0x55d0c0a00000, 0x55d0c0a01000}, Prot: Read | Exec, Off: 0x1000, Dev: "fe:01", Inode: 1234, Path: "/usr/bin/a b"},
		{Range: Range{0x7f0000000000, 0x7f0000001000}, Prot: Read | Write | Shared, Dev: "00:05", Inode: 99, Path: "/dev/shm/x", Gone: true},
		{Range: Range{0x7ffc00000000, 0x7ffc00021000}, Prot: Read | Write, Dev: "00:00", Path: "[stack]"},
		{Range: Range{0x7ffc00100000, 0x7ffc00101000}, Dev: "00:00"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{"x\n", "1-g r-xp 0 0 0\n", "1-2 r-xp 0 0\n"} {
		if _, err := parseMaps([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a mapping", bad)
		}
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("12 (a) b (c)) t 7 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1\n"))
	if diff := cmp.Diff(Stat{Name: "a) b (c)", State: 't', Parent: 7, Flags: 4194560, Start: 4711, CPU: -1}, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := parseStat([]byte("12 a b")); err == nil {
		t.Error("no name, and no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("55d0c0a00000-55d0c0a01000 r-xp 00001000 fe:01 1234  /usr/bin/a\n"))
	f.Add([]byte("12 (a) t 7 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 1\n"))
	f.Add([]byte("TracerPid:\t12\nSigIgn:\tffff\n"))
	f.Add([]byte("32 24 0:28 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n4:memory:/docker/ab/svc\n0::/a:b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if maps, err := parseMaps(b); err == nil {
			for _, m := range maps {
				if m.Dev == "" && len(m.Path) > 0 && m.Path[0] == ' ' {
					t.Errorf("mapping %+v", m)
				}
			}
		}
		_, _ = parseStat(b)
		parseStatus(b)
		for _, h := range parseHierarchies(b) {
			if dir, ok := h.dirOf(b); ok && path.IsAbs(h.mount) && !strings.HasPrefix(dir, path.Clean(h.mount)) {
				t.Errorf("group %q outside %q", dir, h.mount)
			}
		}
	})
}
