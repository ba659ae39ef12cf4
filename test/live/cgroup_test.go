package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestMemoryLimit: what a patch needs is charged to the process's memory
// cgroup. Where that has no room left, the kernel would kill a process of it
// for our write, so nothing is begun.
func TestMemoryLimit(t *testing.T) {
	m := build(t, "places.c", program)
	p := m.patch(t)
	for _, c := range []struct {
		name string
		left int // KiB of its group's memory that the program leaves
		want engine.State
	}{{"full", 0, engine.Refused}, {"just-enough", 160, engine.Patched}, {"room", 8 << 10, engine.Patched}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := m.start(t)
			group := memoryGroup(t, g)
			before := readText(t, g.pid())
			g.want("hog 4096", "1")
			group.leave(t, c.left)
			maps := mappings(t, g.pid())
			e := newEngine(t, engine.Options{})
			r := e.Apply(g.pid(), []*patch.Patch{p})
			result(t, r)
			if n := group.kills(t); n != 0 {
				t.Errorf("the kernel killed %d processes for want of memory", n)
			}
			if c.want == engine.Refused {
				refusal(t, g, before, r, engine.NoMemory, "cgroup")
				if now := mappings(t, g.pid()); now != maps {
					t.Errorf("mappings changed from\n%s\nto\n%s", maps, now)
				}
				g.want("value", placeOld)
				return
			}
			wantState(t, r, engine.Patched)
			g.want("value", placeFixed)
			wantState(t, e.Remove(g.pid(), nil), engine.Removed)
			sameText(t, g.pid(), before)
		})
	}
}

// memGroup is a memory cgroup of version 1 or 2.
type memGroup struct {
	dir string
	v2  bool
}

// memoryGroup puts the target into a group of its own.
func memoryGroup(t *testing.T, g *target) memGroup {
	t.Helper()
	for _, c := range []struct {
		root string
		v2   bool
	}{{"/sys/fs/cgroup/memory", false}, {"/sys/fs/cgroup", true}} {
		dir := filepath.Join(c.root, fmt.Sprintf("hotpatch-test-%d", g.pid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			_ = g.cmd.Process.Kill()
			_ = g.cmd.Wait()
			os.Remove(dir)
		})
		if _, err := os.Stat(filepath.Join(dir, "memory.stat")); err != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(g.pid())), 0); err != nil {
			t.Fatal(err)
		}
		return memGroup{dir, c.v2}
	}
	t.Skip("needs a memory cgroup that can be made below /sys/fs/cgroup")
	return memGroup{}
}

func (g memGroup) read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// leave sets the limit so that the group has so many KiB left.
func (g memGroup) leave(t *testing.T, kib int) {
	t.Helper()
	limit, used := "memory.limit_in_bytes", "memory.usage_in_bytes"
	if g.v2 {
		limit, used = "memory.max", "memory.current"
		_ = os.WriteFile(filepath.Join(g.dir, "memory.reclaim"), []byte("1M"), 0) // gives back what the processors keep in reserve
	}
	n, err := strconv.Atoi(g.read(t, used))
	if err != nil {
		t.Fatal(err)
	}
	set := func(n int) error {
		return os.WriteFile(filepath.Join(g.dir, limit), []byte(strconv.Itoa(n)), 0)
	}
	// Version 1 takes no limit that is exceeded; what the processors keep in
	// reserve it gets back some time after it was refused once.
	for fails := 0; fails < 10 && !g.v2; {
		if set(n) != nil {
			fails++
			n += 4096
			time.Sleep(5 * time.Millisecond)
		}
		n -= 4096
	}
	if err := set(n + 4096 + kib<<10); err != nil {
		t.Fatal(err)
	}
}

// kills counts what the OOM killer did in the group.
func (g memGroup) kills(t *testing.T) int {
	t.Helper()
	name := "memory.oom_control"
	if g.v2 {
		name = "memory.events"
	}
	for line := range strings.Lines(g.read(t, name)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s says nothing of oom_kill", name)
	return 0
}
