package engine

import (
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// many starts processes of one program and waits until they are ready.
func many(t *testing.T, n int, name string, args ...string) []*exec.Cmd {
	t.Helper()
	r, w := io.Pipe()
	defer r.Close()
	var out []*exec.Cmd
	for range n {
		cmd := exec.Command(name, args...)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		go func() { _, _ = io.CopyN(w, pipe, 1) }()
		out = append(out, cmd)
	}
	if _, err := io.ReadFull(r, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	return out
}

// says ends a process and checks which build's function answers.
func says(t *testing.T, cmd *exec.Cmd, want int) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("process %d: exit status %d (%v), want %d", cmd.Process.Pid, got, cmd.ProcessState, want)
	}
}

// TestMany: each of many processes is patched, verified and rolled back, and
// those that have to be waited for hold up no other.
func TestMany(t *testing.T) {
	prog, p := pair(t, "many.c")
	file := savePatch(t, p)
	const blocked, free = 6, 200
	inside, others := many(t, blocked, prog, "inside"), many(t, free, prog)
	t.Setenv("ENGINE_WORKER", "1")
	c := Client{Args: []string{"/proc/self/exe"}}
	req := Request{Op: OpApply, Options: Options{Store: filepath.Join(t.TempDir(), "store"), Level: Strict, Deadline: time.Second}}
	for _, cmd := range append(inside, others...) {
		req.Pids = append(req.Pids, Target{Pid: cmd.Process.Pid, Patches: []string{file}})
	}
	do := func(op Op) (results []Result, ended []int) {
		t.Helper()
		req.Op = op
		results, err := c.Do(context.Background(), req, func(e Event) {
			if e.Result != nil {
				ended = append(ended, e.Pid)
			}
		})
		if err != nil || len(results) != len(req.Pids) || len(ended) != len(results) {
			t.Fatalf("%s: %d results, %d ends: %v", op, len(results), len(ended), err)
		}
		for i, r := range results {
			if r.Pid != req.Pids[i].Pid {
				t.Fatalf("%s: result %d is of process %d, not %d", op, i, r.Pid, req.Pids[i].Pid)
			}
		}
		return results, ended
	}
	results, ended := do(OpApply)
	for i, r := range results {
		want := Patched
		if i < blocked {
			want = Blocked
		}
		if r.State != want || r.Verified != (want == Patched) || r.Program == "" {
			t.Errorf("process %d: %+v, want %s", i, r, want)
		}
	}
	if ended[0] == inside[0].Process.Pid {
		t.Error("the first process, which is waited for, has held up all others")
	}
	results, _ = do(OpVerify)
	for i, r := range results[blocked:] {
		wantState(t, r, Verified)
		if i%2 == 0 {
			says(t, others[i], 2)
		}
	}
	for _, cmd := range inside {
		says(t, cmd, 1)
	}
	results, _ = do(OpRemove)
	for i, r := range results[blocked:] {
		if i%2 == 0 {
			wantState(t, r, Exited)
			continue
		}
		wantState(t, r, Removed)
		says(t, others[i], 1)
	}
}
