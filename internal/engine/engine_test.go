package engine

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// pair compiles both builds of a program and makes the patch.
func pair(t *testing.T, source string, flags ...string) (baseline string, p *patch.Patch) {
	t.Helper()
	return pairTo(t, source, 1, flags...)
}

// pairTo makes the patch from -DFIX=0 to another -DFIX.
func pairTo(t *testing.T, source string, fix int, flags ...string) (baseline string, p *patch.Patch) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to trace processes")
	}
	dir := t.TempDir()
	var mods [2]*module.Module
	for i := range mods {
		out := filepath.Join(dir, fmt.Sprintf("%s.%d", strings.TrimSuffix(source, filepath.Ext(source)), i))
		cc := "gcc"
		if strings.HasSuffix(source, ".cc") {
			cc = "g++"
		}
		args := append([]string{"-O2", "-s", "-pthread", "-fPIE", "-pie", "-Wl,--build-id", fmt.Sprintf("-DFIX=%d", i*fix), "-o", out, "testdata/" + source}, flags...)
		if b, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
			t.Fatalf("compile %s: %v\n%s", source, err, b)
		}
		m, err := module.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		mods[i] = m
		if i == 0 {
			baseline = out
		}
	}
	r, err := diff.Compare(mods[0], mods[1])
	if err != nil {
		t.Fatal(err)
	}
	p, reasons, err := patch.Build(r, "test")
	if err != nil || p == nil {
		t.Fatalf("build patch: %v %v %v", err, reasons, r.Reasons)
	}
	if _, err := p.Encode(); err != nil {
		t.Fatal(err)
	}
	return baseline, p
}

type target struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func run(t *testing.T, name string, args ...string) *target {
	t.Helper()
	g := &target{t: t, cmd: exec.Command(name, args...)}
	g.cmd.Stderr = os.Stderr
	g.in, _ = g.cmd.StdinPipe()
	out, _ := g.cmd.StdoutPipe()
	g.out = bufio.NewReader(out)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
	})
	if s := g.line(); s != "ready" {
		t.Fatalf("program said %q", s)
	}
	return g
}

func (g *target) pid() int { return g.cmd.Process.Pid }

func (g *target) line() string {
	g.t.Helper()
	s, err := g.out.ReadString('\n')
	if err != nil {
		g.t.Fatalf("read from program: %v (%v)", err, g.cmd.Wait())
	}
	return strings.TrimSpace(s)
}

func (g *target) ask(c string) string {
	g.t.Helper()
	if _, err := io.WriteString(g.in, c); err != nil {
		g.t.Fatalf("write to program: %v", err)
	}
	return g.line()
}

func (g *target) want(c, want string) {
	g.t.Helper()
	if got := g.ask(c); got != want {
		g.t.Errorf("command %s: got %s, want %s", c, got, want)
	}
}

func engine(t *testing.T, o Options) *Engine {
	t.Helper()
	if o.Store == "" {
		o.Store = filepath.Join(t.TempDir(), "store")
	}
	e, err := New(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantState(t *testing.T, r Result, s State) {
	t.Helper()
	if r.State != s {
		t.Fatalf("state %s, want %s: %+v", r.State, s, r.Reasons) // Result itself prints as its ID
	}
}

const (
	oldSum = "45"
	newSum = "14500"
)

func TestApplyAndRemove(t *testing.T) {
	prog, p := pair(t, "server.c")
	for _, c := range []struct {
		n, kind string
		most    time.Duration // design.md, strict, median
	}{
		{"1", "idle", 100 * time.Microsecond},
		{"8", "busy", 0},
		{"8", "idle", 200 * time.Microsecond},
		{"64", "idle", 800 * time.Microsecond},
		{"64", "busy", 0},
		{"512", "idle", 8 * time.Millisecond},
	} {
		t.Run(c.n+c.kind, func(t *testing.T) {
			g := run(t, prog, c.n, c.kind)
			e := engine(t, Options{Budget: 50 * time.Millisecond, Deadline: 20 * time.Second})
			var pauses, prepares []int64
			for range 9 {
				r := e.Apply(g.pid(), []*patch.Patch{p})
				wantState(t, r, Patched)
				pauses, prepares = append(pauses, r.Pause), append(prepares, r.Prepare)
				g.want("v", newSum)
				wantState(t, e.Verify(g.pid()), Verified)
				wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Already)
				r = e.Remove(g.pid(), nil)
				wantState(t, r, Removed)
				g.want("v", oldSum)
				wantState(t, e.Verify(g.pid()), Already)
			}
			slices.Sort(pauses)
			slices.Sort(prepares)
			t.Logf("median pause %d µs, prepare %d µs", pauses[4], prepares[4])
			if got := time.Duration(pauses[4]) * time.Microsecond; c.most > 0 && got > 10*c.most {
				t.Errorf("median pause %v; the design wants %v", got, c.most)
			}
		})
	}
}

func TestBlocked(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "4")
	g.want("p", "parked")
	store := t.TempDir() + "/store"
	e := engine(t, Options{Deadline: 300 * time.Millisecond, Level: Strict, Store: store})
	patient := engine(t, Options{Level: Strict, Store: store})
	before, _ := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
	r := e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Blocked)
	if !slices.Equal(r.Patches, []patch.ID{p.ID}) {
		t.Errorf("patches %v, want the one that was to come", r.Patches)
	}
	if len(r.Reasons) != 1 || r.Reasons[0].Code != ThreadInside || len(r.Reasons[0].Stack) < 3 || r.Reasons[0].Function == "" {
		t.Errorf("reasons %+v; want the one parked thread with its stack", r.Reasons)
	}
	t.Logf("%+v", r.Reasons)
	after, _ := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
	if string(before) != string(after) {
		t.Errorf("mappings changed:\n%s\n%s", before, after)
	}
	g.want("v", oldSum)
	g.want("r", "1")
	wantState(t, patient.Apply(g.pid(), []*patch.Patch{p}), Patched)
	g.want("v", newSum)
	g.want("p", "parked")
	r = e.Remove(g.pid(), nil)
	wantState(t, r, Blocked)
	if !slices.Equal(r.Patches, []patch.ID{p.ID}) {
		t.Errorf("patches %v, want the one that was to go", r.Patches)
	}
	g.want("v", newSum)
	g.want("r", "2000")
	wantState(t, patient.Remove(g.pid(), nil), Removed)
	g.want("v", oldSum)
}

// TestBudget: where the budget is too small for a look at the threads, that is
// the reason.
func TestBudget(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "4")
	r := engine(t, Options{Budget: time.Microsecond, Deadline: 100 * time.Millisecond}).Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Blocked)
	if r.Reasons[0].Code != ThreadBusy || !strings.Contains(r.Reasons[0].Detail, "budget") {
		t.Errorf("%+v; want the budget as the reason", r.Reasons)
	}
	g.want("v", oldSum)
}

func TestChild(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "1")
	e := engine(t, Options{})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
	child, err := strconv.Atoi(g.ask("f"))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(child, unix.SIGKILL) //nolint:errcheck // it may have ended
	g.want("v", newSum)
	wantState(t, e.Verify(child), Verified)
	wantState(t, e.Remove(child, nil), Removed)
	g.want("v", oldSum)
	wantState(t, e.Apply(child, []*patch.Patch{p}), Patched)
	g.want("v", newSum)
}

func TestHook(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "1")
	e := engine(t, Options{})
	wantState(t, e.Apply(g.pid(), []*patch.Patch{p}), Patched)
	rec, err := e.Status(g.pid())
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.OpenFile("/proc/"+strconv.Itoa(g.pid())+"/mem", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	at := int64(rec.Units[0].Steers[0].At)
	if _, err := mem.WriteAt([]byte{0xcc}, at); err != nil {
		t.Fatal(err)
	}
	r := e.Verify(g.pid())
	wantState(t, r, Tampered)
	t.Log(r.Reasons)
	if _, err := mem.WriteAt([]byte{0xe9}, at); err != nil {
		t.Fatal(err)
	}
	wantState(t, e.Verify(g.pid()), Verified)
	wantState(t, e.Remove(g.pid(), nil), Removed)
	if _, err := mem.WriteAt([]byte{0xcc}, at); err != nil {
		t.Fatal(err)
	}
	r = e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Refused)
	if r.Reasons[0].Code != EntryChanged {
		t.Errorf("reasons %+v", r.Reasons)
	}
}

// TestStatusMeanwhile: until the entries are changed, what goes is in force yet.
func TestStatusMeanwhile(t *testing.T) {
	prog, p := pair(t, "server.c")
	_, p2 := pairTo(t, "server.c", 2)
	g := run(t, prog, "1")
	e := engine(t, Options{})
	var step string
	var in []patch.ID
	outer, err := New(Options{Store: e.opts.Store}, func(ev Event) {
		if ev.State != step {
			return
		}
		rec, err := e.Status(g.pid())
		if err != nil || rec == nil || !rec.UnderWay {
			t.Fatalf("at %s: %+v, %v", step, rec, err)
		}
		for _, u := range rec.Units {
			in = append(in, u.Patch)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		do   func() Result
		step string
		want []patch.ID
	}{
		{func() Result { return outer.Apply(g.pid(), []*patch.Patch{p}) }, "commit", nil},
		{func() Result { return outer.Apply(g.pid(), []*patch.Patch{p2}) }, "commit", []patch.ID{p.ID}},
		{func() Result { return outer.Revert(g.pid(), nil) }, "commit", []patch.ID{p2.ID}},
		{func() Result { return outer.Revert(g.pid(), nil) }, "clear out", nil},
	} {
		step, in = c.step, nil
		if r := c.do(); len(r.Reasons) > 0 {
			t.Fatalf("%s: %v", r.State, r.Reasons)
		}
		if !slices.Equal(in, c.want) {
			t.Errorf("in force at %s: %v, want %v", step, in, c.want)
		}
	}
}

func TestLocked(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "1")
	e := engine(t, Options{})
	var inner Result
	outer, err := New(Options{Store: e.opts.Store}, func(ev Event) {
		if ev.State == "map" {
			inner = e.Apply(g.pid(), []*patch.Patch{p})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	wantState(t, outer.Apply(g.pid(), []*patch.Patch{p}), Patched)
	wantState(t, inner, Refused)
	if inner.Reasons[0].Code != Locked || !strings.Contains(inner.Reasons[0].Detail, fmt.Sprintf("by process %d (", os.Getpid())) {
		t.Errorf("reasons %+v", inner.Reasons)
	}
}
