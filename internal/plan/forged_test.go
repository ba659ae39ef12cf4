package plan

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hotpatch/internal/host"
)

const waiting = `
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline, noipa)) int answer(int n) { return n * LIMIT + n / 3; }
int main(void) { printf("ready\n"); fflush(stdout); for (;;) answer(pause()); }
`

// TestForgedSections: two programs that are alike in all that is loaded, of
// which one has forged symbols, do not share a patch. Nor does a process whose
// files cannot be used spoil it for the other.
func TestForgedSections(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to open the files that processes have mapped")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "prog.c")
	if err := os.WriteFile(src, []byte(waiting), 0o644); err != nil {
		t.Fatal(err)
	}
	build := func(limit string) []byte {
		out := filepath.Join(dir, "built")
		if b, err := exec.Command("gcc", "-O2", "-pie", "-fPIE", "-Wl,--build-id", "-DLIMIT="+limit, "-o", out, src).CombinedOutput(); err != nil {
			t.Fatalf("gcc (apt install gcc libc6-dev): %v\n%s", err, b)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	old, fixed := build("5"), build("7")
	forged := bytes.ReplaceAll(old, []byte("\x00answer\x00"), []byte("\x00forged\x00"))
	if bytes.Equal(old, forged) {
		t.Fatal("the program has no symbol to forge")
	}
	var pids []int
	put := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path+".new", data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		put(path, data)
		for range 2 {
			cmd := exec.Command(path)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait() // by the signal
			})
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatalf("%s says %q, %v", name, line, err)
			}
			pids = append(pids, cmd.Process.Pid)
		}
		put(path, fixed)
		return path
	}
	run("forged", forged)
	run("honest", old)
	writable := run("writable", old)
	if err := os.Chmod(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	procs, err := host.Scan(t.Context(), host.Options{PIDs: pids})
	if err != nil {
		t.Fatal(err)
	}
	var p Planner
	needs, err := p.Plan(context.Background(), procs, nil)
	if err != nil || len(needs) != 6 {
		t.Fatalf("%d processes need something, %v", len(needs), err)
	}
	builds := make(map[string]*Build)
	for _, n := range needs {
		name := strings.TrimSuffix(filepath.Base(n.Proc.Exe), " (deleted)")
		if len(n.Updates) != 1 {
			t.Fatalf("%s: %d updates", name, len(n.Updates))
		}
		u := n.Updates[0]
		if (u.Err != nil) != (name == "writable") {
			t.Errorf("%s: %v", name, u.Err)
			continue
		}
		if u.Err == nil {
			if b := builds[name]; b != nil && b != u.Builds[0] {
				t.Errorf("%s: two processes of one file have two builds", name)
			}
			builds[name] = u.Builds[0]
		}
	}
	a, b := builds["honest"], builds["forged"]
	if a == nil || b == nil || a == b {
		t.Fatalf("builds %p and %p", a, b)
	}
	if a.Patch == nil || a.Patch.Steers[0].Name != "answer" {
		t.Errorf("the honest program: %+v", a)
	}
	if b.Patch != nil && b.Patch.ID == a.Patch.ID {
		t.Error("forged symbols made no difference: the test is broken")
	}
	if a.Patch != nil && b.Patch != nil && a.Patch.Baseline != b.Patch.Baseline {
		t.Error("the two have different identities: the test is broken")
	}
}
