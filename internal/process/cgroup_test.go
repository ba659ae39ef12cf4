package process

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemoryHierarchies(t *testing.T) {
	in := "24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw\n" +
		"31 24 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n" +
		"32 24 0:28 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"33 24 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	own := []byte("7:cpu:/x\n4:memory:/docker/ab/svc\n0::/system.slice/a:b\n")
	var got []string
	for _, h := range parseHierarchies([]byte(in)) {
		dir, ok := h.dirOf(own)
		if !ok {
			t.Errorf("%+v: no directory", h)
		}
		got = append(got, dir)
	}
	if diff := cmp.Diff([]string{"/sys/fs/cgroup/unified/system.slice/a:b", "/sys/fs/cgroup/memory/svc"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if dir, ok := parseHierarchies([]byte(in))[1].dirOf([]byte("4:memory:/elsewhere\n")); ok {
		t.Errorf("a group that is not mounted lies in %s", dir)
	}
}

func TestRoom(t *testing.T) {
	for _, c := range []struct {
		limit string
		room  int64
		ok    bool
	}{{"1000\n", 1000 - 900 + 30, true}, {"max\n", 0, false}} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			"memory.max": c.limit, "memory.current": "900\n",
			"memory.stat": "anon 700\nfile 60\ninactive_file 20\nactive_file 10\ntotal_active_file 5\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h := parseHierarchies([]byte("1 1 0:1 / " + dir + " rw - cgroup2 none rw\n"))[0]
		if room, ok := h.room(dir); room != c.room || ok != c.ok {
			t.Errorf("limit %q: %d %t, want %d %t", c.limit, room, ok, c.room, c.ok)
		}
	}
}
