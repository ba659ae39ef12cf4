package live

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// TestLargeConstants: a table that is the same in both builds is not copied
// into the process, and its address stays what it was.
func TestLargeConstants(t *testing.T) {
	t.Parallel()
	const table, most = 4 << 20, 1 << 20 // bytes
	m := build(t, "large.c", program)
	p := m.patch(t)
	g := m.start(t)
	g.want("read 1", "101")
	g.want("find 5", "0")
	before := ownMemory(t, g.pid())
	wantState(t, newEngine(t, engine.Options{}).Apply(g.pid(), []*patch.Patch{p}), engine.Patched)
	g.want("read 1", "1101")
	g.want("find 5", "1")
	if grown := ownMemory(t, g.pid()) - before; grown > most {
		t.Errorf("the process has %d bytes of its own more, for a table of %d", grown, table)
	}
}

// ownMemory is how many bytes of a process's memory are its own and no file's.
func ownMemory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(b, []byte("\nAnonymous:"))
	var n int
	if _, err := fmt.Sscan(string(rest), &n); err != nil {
		t.Fatalf("read smaps_rollup: %v", err)
	}
	return n << 10
}
