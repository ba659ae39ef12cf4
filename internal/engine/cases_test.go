package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotpatch/internal/patch"
)

func TestReplace(t *testing.T) {
	prog, p1 := pair(t, "server.c")
	_, p2 := pairTo(t, "server.c", 2)
	g := run(t, prog, "8", "busy")
	e := engine(t, Options{Budget: 50 * time.Millisecond})
	for range 3 {
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
		g.want("v", newSum)
		r := e.Apply(g.pid(), []*patch.Patch{p2})
		wantState(t, r, Patched)
		g.want("v", "24500")
		wantState(t, e.Verify(g.pid()), Verified)
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Already)
		refused := e.Remove(g.pid(), []patch.ID{p1.ID})
		wantState(t, refused, Refused)
		if order := p2.ID.Short() + ", " + p1.ID.Short(); !strings.Contains(refused.Reasons[0].Detail, order) {
			t.Errorf("reasons %+v do not say the order %s", refused.Reasons, order)
		}
		r = e.Remove(g.pid(), []patch.ID{p2.ID})
		wantState(t, r, Removed)
		g.want("v", oldSum)
		wantState(t, e.Verify(g.pid()), Already)
	}
}

// A thread in a function that the earlier patch brought blocks the later one,
// and the earlier one stays in force.
func TestReplaceBlocked(t *testing.T) {
	prog, p1 := pair(t, "server.c")
	_, p2 := pairTo(t, "server.c", 2)
	g := run(t, prog, "2")
	e := engine(t, Options{Deadline: 200 * time.Millisecond, Level: Strict})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p1}), Patched)
	g.want("p", "parked")
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Blocked)
	g.want("v", newSum)
	wantState(t, e.Verify(g.pid()), Verified)
	g.want("r", "2000")
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Patched)
	g.want("v", "24500")
}

func TestEntryLevel(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "2")
	g.want("p", "parked")
	p.EntryAllowed = false
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	e := engine(t, Options{Deadline: 200 * time.Millisecond})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Blocked)
	p.EntryWhy = "the frame in it stays"
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	r := engine(t, Options{Level: Entry, Store: e.opts.Store}).Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Refused)
	if r.Reasons[0].Code != LevelRefused || r.Reasons[0].Detail != p.EntryWhy {
		t.Errorf("%+v; want the patch's reason", r.Reasons)
	}
	p.EntryAllowed = true
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	r = e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Patched)
	if r.Level != Entry {
		t.Errorf("level %s, want entry", r.Level)
	}
	g.want("v", newSum)
	if r = e.Apply(g.pid(), []*patch.Patch{p}); r.State != Already || len(r.Reasons) > 0 {
		t.Errorf("again: %+v", r)
	}
	r = engine(t, Options{Level: Strict, Store: e.opts.Store}).Apply(g.pid(), []*patch.Patch{p})
	if r.State != Already || len(r.Reasons) != 1 || r.Reasons[0].Code != NotStrict {
		t.Errorf("asked for strict: %+v", r)
	}
	drains := func(want bool) {
		t.Helper()
		if rec, err := e.Status(g.pid()); err != nil || rec.Units[0].Draining != want {
			t.Errorf("draining %t, want %t; %v", !want, want, err)
		}
	}
	drains(true)
	g.want("r", "1") // the old frame finished in old code
	drains(false)
	g.want("p", "parked")
	r = e.Remove(g.pid(), nil) // with a thread inside: the overlay stays
	wantState(t, r, Removed)
	if r.Left == 0 {
		t.Errorf("nothing is left of an overlay that a thread is in: %+v", r)
	}
	g.want("v", oldSum)
	// What is taken out later takes nothing from under that thread.
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
	strict := engine(t, Options{Deadline: 3 * time.Second, Level: Strict, Store: e.opts.Store})
	wantState(t, strict.Remove(g.pid(), nil), Removed)
	g.want("v", oldSum)
	g.want("r", "2000")
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
	g.want("v", newSum)
}

func TestHardened(t *testing.T) {
	prog, p := pair(t, "server.c")
	for _, kind := range []string{"seccomp", "mdwe"} {
		t.Run(kind, func(t *testing.T) {
			g := run(t, prog, "4", "busy", kind)
			e := engine(t, Options{Budget: 50 * time.Millisecond})
			for range 3 {
				wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
				g.want("v", newSum)
				wantState(t, e.Remove(g.pid(), nil), Removed)
				g.want("v", oldSum)
			}
		})
	}
}

func TestOtherBuild(t *testing.T) {
	prog, _ := pair(t, "server.c")
	_, p := pair(t, "server.c", "-falign-functions=64")
	g := run(t, prog, "1")
	r := engine(t, Options{}).Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Refused)
	if r.Reasons[0].Code != NoModule {
		t.Errorf("reasons %+v", r.Reasons)
	}
}

// TestKilledAnywhere kills the engine at random moments; whatever it leaves,
// every function is old or new as a whole, and the next run comes through.
func TestKilledAnywhere(t *testing.T) {
	prog, p := pair(t, "server.c")
	file := savePatch(t, p)
	g := run(t, prog, "3", "busy")
	e := engine(t, Options{Budget: 50 * time.Millisecond, Deadline: 20 * time.Second})
	t.Setenv("ENGINE_DIES", "never")
	for i := range 30 {
		op := []Op{OpApply, OpRemove}[i%2]
		req, _ := json.Marshal(Request{Op: op, Pids: []Target{{Pid: g.pid(), Patches: []string{file}}}, Options: e.opts})
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "ENGINE_REQUEST="+string(req))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Millisecond + rand.N(40*time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		g.ask("v")
		var r Result
		for try := 0; ; try++ { // the kernel may still be closing the dead one's lock
			if op == OpApply {
				r = e.Apply(g.pid(), []*patch.Patch{p})
			} else {
				r = e.Remove(g.pid(), nil)
			}
			if try == 100 || len(r.Reasons) == 0 || r.Reasons[0].Code != Locked {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if want := map[Op]State{OpApply: Patched, OpRemove: Removed}[op]; r.State != want && r.State != Already {
			t.Fatalf("round %d: %s %+v", i, r.State, r.Reasons)
		}
		g.want("v", map[Op]string{OpApply: newSum, OpRemove: oldSum}[op])
	}
	if r := e.Verify(g.pid()); r.State != Already {
		t.Errorf("verify: %+v", r)
	}
	maps, err := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
	if err != nil || strings.Contains(string(maps), "rwxp") {
		t.Errorf("memory that is writable and executable, or %v:\n%s", err, maps)
	}
}

// The update has replaced the program on disk: the process maps a deleted file.
func TestDeletedFile(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "2", "busy")
	if err := os.Remove(prog); err != nil {
		t.Fatal(err)
	}
	e := engine(t, Options{Budget: 50 * time.Millisecond})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
	g.want("v", newSum)
	wantState(t, e.Verify(g.pid()), Verified)
	wantState(t, e.Remove(g.pid(), nil), Removed)
	g.want("v", oldSum)
}

// TestVerificationFails: new code that somebody changes before it has been
// compared with the patch does not stay in force, whatever the level.
func TestVerificationFails(t *testing.T) {
	prog, p := pair(t, "server.c")
	p.EntryAllowed = true
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	for _, level := range []Level{Strict, Entry, Auto} {
		g := run(t, prog, "1")
		e := engine(t, Options{Level: level})
		e.report = func(ev Event) {
			if ev.State == "verify" {
				overwriteAnonymousCode(t, g.pid())
			}
		}
		r := e.Apply(g.pid(), []*patch.Patch{p})
		if r.State == Patched || len(r.Reasons) == 0 {
			t.Errorf("%s: %s %+v", level, r.State, r.Reasons)
		}
		e.report = func(Event) {}
		g.want("v", oldSum)
		if rec, err := e.Status(g.pid()); err != nil || rec != nil && len(rec.Units)+len(rec.Pending) > 0 {
			t.Errorf("%s: status %+v, %v", level, rec, err)
		}
	}
}

// overwriteAnonymousCode puts int3 at the start of the process's executable
// memory that is of no file.
func overwriteAnonymousCode(t *testing.T, pid int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		start, _, _ := strings.Cut(f[0], "-")
		at, err := strconv.ParseInt(start, 16, 64)
		if err != nil || f[1] != "r-xp" || len(f) > 5 {
			continue
		}
		if _, err := mem.WriteAt([]byte{0xcc}, at); err != nil {
			t.Fatal(err)
		}
	}
}
