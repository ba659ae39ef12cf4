package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
)

// TestMain turns the test binary into a worker, or into an engine that dies
// when a certain step begins.
func TestMain(m *testing.M) {
	if os.Getenv("ENGINE_WORKER") != "" {
		if os.Getenv("ENGINE_NO_FORCE") != "" {
			noForce()
		}
		if err := RunWorker(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if step := os.Getenv("ENGINE_DIES"); step != "" {
		die(step)
	}
	os.Exit(m.Run())
}

func die(step string) {
	var req Request
	if err := json.Unmarshal([]byte(os.Getenv("ENGINE_REQUEST")), &req); err != nil {
		panic(err)
	}
	e, err := New(req.Options, func(ev Event) {
		if ev.State == step {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	if err != nil {
		panic(err)
	}
	r := e.one(req, req.Pids[0])
	fmt.Printf("%+v\n", r)
	os.Exit(0)
}

func savePatch(t *testing.T, p *patch.Patch) string {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "p.hotpatch")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestEngineDies(t *testing.T) {
	prog, p := pair(t, "server.c")
	file := savePatch(t, p)
	for _, c := range []struct {
		op   Op
		step string
	}{
		{OpApply, "match"},
		{OpApply, "record intent"},
		{OpApply, "map"},
		{OpApply, "write"},
		{OpApply, "commit"},
		{OpApply, "verify"},
		{OpApply, "record"},
		{OpRemove, "record intent"},
		{OpRemove, "commit"},
		{OpRemove, "verify"},
		{OpRemove, "clear out"},
	} {
		t.Run(string(c.op)+" "+c.step, func(t *testing.T) {
			g := run(t, prog, "3", "busy")
			e := engine(t, Options{})
			want := oldSum
			if c.op == OpRemove {
				wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
				want = newSum
			}
			req, _ := json.Marshal(Request{Op: c.op, Pids: []Target{{Pid: g.pid(), Patches: []string{file}}}, Options: e.opts})
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "ENGINE_DIES="+c.step, "ENGINE_REQUEST="+string(req))
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("it did not die: %v %s", err, out)
			}
			switch c.step {
			case "verify", "record", "clear out":
				want = newSum
				if c.op == OpRemove {
					want = oldSum
				}
			}
			g.want("v", want)
			// The next run finishes or undoes first.
			left := Already
			if want == newSum {
				left = Removed
			}
			wantState(t, e.Remove(g.pid(), nil), left)
			g.want("v", oldSum)
			if rec, err := e.Status(g.pid()); err != nil || rec != nil && len(rec.Units)+len(rec.Pending) > 0 {
				t.Errorf("status %+v, %v", rec, err)
			}
			wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
			g.want("v", newSum)
			wantState(t, e.Verify(g.pid()), Verified)
		})
	}
}

// TestWorkerShared: of processes that share memory, each of which is asked for,
// one is served, and all have its result.
func TestWorkerShared(t *testing.T) {
	prog, p := pair(t, "server.c")
	_, p2 := pairTo(t, "server.c", 2)
	f1, f2 := savePatch(t, p), savePatch(t, p2)
	t.Setenv("ENGINE_WORKER", "1")
	c := Client{Args: []string{"/proc/self/exe"}}
	var gs []*target
	req := Request{Options: Options{Store: filepath.Join(t.TempDir(), "store")}}
	for range few {
		g := run(t, prog, "1", "beside")
		gs = append(gs, g)
		peer, _ := strconv.Atoi(g.ask("c"))
		req.Pids = append(req.Pids, Target{Pid: g.pid()}, Target{Pid: peer})
	}
	for _, n := range []int{2, 2 * few} { // one after the other, and at once
		for _, s := range []struct {
			op   Op
			file string
			want State
			sum  string
		}{
			{OpApply, f1, Patched, newSum},
			{OpApply, f2, Patched, "24500"},
			{OpVerify, "", Verified, "24500"},
			{OpRevert, "", Removed, newSum},
			{OpRevert, "", Removed, oldSum},
		} {
			part, ends := req, map[int]int{}
			part.Op, part.Pids = s.op, slices.Clone(req.Pids[:n])
			for i := range part.Pids {
				part.Pids[i].Patches = strings.Fields(s.file)
			}
			rs, err := c.Do(context.Background(), part, func(e Event) {
				if e.Result != nil {
					ends[e.Pid]++
				}
			})
			if err != nil || len(rs) != n {
				t.Fatalf("%s: %d results, %v", s.op, len(rs), err)
			}
			for i, r := range rs {
				wantState(t, r, s.want)
				if r.Pid != part.Pids[i].Pid || len(r.Sharing) != 2 || ends[r.Pid] != 1 {
					t.Errorf("%s: result %d is of process %d, shared by %v, and told %d times", s.op, i, r.Pid, r.Sharing, ends[r.Pid])
				}
			}
			for _, g := range gs[:n/2] {
				g.want("v", s.sum)
				g.want("b", s.sum)
			}
		}
	}
}

func TestWorker(t *testing.T) {
	prog, p := pair(t, "server.c")
	file := savePatch(t, p)
	g, h := run(t, prog, "2"), run(t, prog, "2")
	t.Setenv("ENGINE_WORKER", "1")
	c := Client{Args: []string{"/proc/self/exe"}}
	store := filepath.Join(t.TempDir(), "store")
	gone := exec.Command("true")
	_ = gone.Run()
	var steps []string
	res, err := c.Do(context.Background(), Request{Op: OpApply, Options: Options{Store: store}, Pids: []Target{
		{Pid: g.pid(), Patches: []string{file}},
		{Pid: gone.Process.Pid, Patches: []string{file}},
		{Pid: h.pid(), Patches: []string{file}},
	}}, func(e Event) { steps = append(steps, e.State) })
	if err != nil || len(res) != 3 {
		t.Fatalf("results %+v, %v", res, err)
	}
	wantState(t, res[0], Patched)
	wantState(t, res[1], Exited)
	wantState(t, res[2], Patched)
	g.want("v", newSum)
	if len(steps) < 10 {
		t.Errorf("steps %v", steps)
	}
	// The command is to end while the worker waits for a thread: nothing is changed,
	// and what comes later is not begun.
	g.want("p", "parked")
	before := textOf(t, g)
	ctx, cancel := context.WithCancel(context.Background())
	req := Request{Op: OpRemove, Options: Options{Store: store, Level: Strict, Deadline: time.Minute}, Pids: []Target{{Pid: g.pid()}, {Pid: h.pid()}}}
	res, err = c.Do(ctx, req, func(ev Event) {
		if ev.State == "commit" {
			time.AfterFunc(100*time.Millisecond, cancel)
		}
	})
	if err != nil || len(res) != 2 {
		t.Fatalf("results %+v, %v", res, err)
	}
	for _, r := range res {
		wantState(t, r, Interrupted)
	}
	if !bytes.Equal(before, textOf(t, g)) {
		t.Error("code is not what it was")
	}
	g.want("v", newSum)
	h.want("v", newSum)
	g.want("r", "2000")
	wantState(t, engine(t, Options{Store: store}).Verify(g.pid()), Verified)
	// Another one does not wait: it finishes.
	ctx, cancel = context.WithCancel(context.Background())
	req.Pids = req.Pids[:1]
	res, err = c.Do(ctx, req, func(ev Event) {
		if ev.State == "record" {
			cancel()
		}
	})
	if err != nil || len(res) != 1 {
		t.Fatalf("results %+v, %v", res, err)
	}
	wantState(t, res[0], Removed)
	g.want("v", oldSum)
}
