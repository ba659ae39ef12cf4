package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"hotpatch/internal/patch"
)

// killer builds the program that kills others at their system calls.
func killer(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "killer")
	if b, err := exec.Command("gcc", "-O2", "-o", out, "testdata/killer.c").CombinedOutput(); err != nil {
		t.Fatalf("compile killer: %v\n%s", err, b)
	}
	return out
}

// killedAt carries a request out and is killed at the n-th system call, or not
// when it makes fewer: then alive is true.
func killedAt(t *testing.T, killer string, n int, req Request) (calls int, alive bool) {
	t.Helper()
	js, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(killer, strconv.Itoa(n), "/proc/self/exe")
	cmd.Args[2], err = os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "ENGINE_DIES=never", "ENGINE_REQUEST="+string(js))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	if len(lines) == 0 {
		t.Fatalf("killer said nothing: %v", err)
	}
	calls, err = strconv.Atoi(lines[len(lines)-1])
	if err != nil {
		t.Fatalf("killer said %q", out)
	}
	return calls, exit == nil
}

// TestKilled kills the engine before and after every call with which it
// reaches into the process or writes its record: while it applies a patch,
// replaces one, goes back to it and takes it out. The process goes on and
// answers as one of the builds does, the next status tells which, and the next
// apply and rollback come to their ends.
func TestKilled(t *testing.T) {
	prog, p1 := pair(t, "server.c")
	_, p2 := pairTo(t, "server.c", 2)
	f1, f2 := savePatch(t, p1), savePatch(t, p2)
	kill := killer(t)
	const sum1, sum2 = newSum, "24500"
	for _, c := range []struct {
		name  string
		op    Op
		file  string
		begin []string // the answers before, one patch after the other
		then  string   // the answer afterwards
	}{
		{"apply", OpApply, f1, []string{oldSum}, sum1},
		{"apply to shared memory", OpApply, f1, []string{oldSum}, sum1},
		{"remove from shared memory", OpRemove, "", []string{sum1}, oldSum},
		{"apply and retire", OpApply, f1, []string{oldSum}, sum1},
		{"remove what is retired", OpRemove, "", []string{sum1}, oldSum},
		{"remove", OpRemove, "", []string{sum1}, oldSum},
		{"replace", OpApply, f2, []string{sum1}, sum2},
		{"revert", OpRevert, "", []string{sum1, sum2}, sum1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := run(t, prog, "2")
			answer := func() string { return g.ask("v") }
			pid := g.pid() // by which it is looked at afterwards
			if strings.Contains(c.name, "shared") {
				g = run(t, prog, "2", "beside")
				pid, _ = strconv.Atoi(g.ask("c"))
				answer = func() string {
					t.Helper()
					v := g.ask("v")
					g.want("b", v)
					return v
				}
			}
			e := engine(t, Options{Retire: strings.Contains(c.name, "retire")})
			before := textOf(t, g)
			sums := map[string]patch.ID{oldSum: "", sum1: p1.ID, sum2: p2.ID}
			killed, between := 0, 0
			for n := 1; ; n++ {
				for _, s := range c.begin {
					if s == sum1 {
						wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
					}
					if s == sum2 {
						wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Patched)
					}
				}
				_, alive := killedAt(t, kill, n, Request{Op: c.op, Options: e.opts, Pids: []Target{{Pid: g.pid(), Patches: strings.Fields(c.file)}}})
				now := answer()
				was := c.begin[len(c.begin)-1]
				if alive && now != c.then {
					t.Fatalf("it answers %s", now)
				}
				if now != was && now != c.then {
					between++ // in the midst of the stop: some functions are new, some old
				}
				// The run that finishes or undoes it may be killed, too.
				killedAt(t, kill, 1+n%40, Request{Op: OpVerify, Options: e.opts, Pids: []Target{{Pid: pid}}})
				rec, err := e.Status(pid)
				if err != nil {
					t.Fatalf("killed at call %d: status: %v", n, err)
				}
				var says patch.ID
				if rec != nil && len(rec.Units) > 0 {
					says = rec.Units[0].Patch
				}
				// The status may have finished what was begun.
				if now = answer(); sums[now] != says {
					t.Fatalf("killed at call %d it answers %s and the status says %q", n, now, says)
				}
				if says != "" {
					wantState(t, e.Verify(pid), Verified)
				}
				if r := e.Remove(pid, nil); r.State != Removed && !(says == "" && r.State == Already) {
					t.Fatalf("killed at call %d: remove: %s %+v", n, r.State, r.Reasons)
				}
				if now := answer(); now != oldSum {
					t.Fatalf("killed at call %d and undone it answers %s", n, now)
				}
				if !bytes.Equal(before, textOf(t, g)) {
					t.Fatalf("killed at call %d: code is not what it was", n)
				}
				if alive {
					break
				}
				killed++
			}
			t.Logf("killed %d times, %d of them between two entries", killed, between)
			if killed < 50 || between > 3*len(p1.Steers) {
				t.Errorf("killed only %d times, %d of them between two entries", killed, between)
			}
		})
	}
}
