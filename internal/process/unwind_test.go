package process

import (
	"debug/elf"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// buildWithSymbols compiles a program whose functions can be named.
func buildWithSymbols(t *testing.T, name string, flags ...string) (string, map[string]elf.Symbol) {
	t.Helper()
	prog := build(t, name) // skips where it must
	args := append([]string{"-O2", "-pthread", "-o", prog, "testdata/" + name}, flags...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	f, err := elf.Open(prog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]elf.Symbol{}
	for _, s := range syms {
		byName[s.Name] = s
	}
	return prog, byName
}

func TestStackThroughSignal(t *testing.T) {
	for _, flags := range [][]string{nil, {"-fno-omit-frame-pointer"}, {"-static-pie"}, {"-static", "-no-pie"}} {
		t.Run(strings.Join(flags, ""), func(t *testing.T) {
			prog, syms := buildWithSymbols(t, "stacks.c", flags...)
			g := run(t, prog)
			p := open(t, g)
			time.Sleep(20 * time.Millisecond)
			u, err := NewUnwinder(p)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			var complete bool
			var hits []Hit
			mods, err := p.Modules()
			if err != nil {
				t.Fatal(err)
			}
			main := slices.IndexFunc(mods, func(m Module) bool { return m.Path == prog })
			ranges := func(name string) []Range {
				s, bias := syms[name], mods[main].Bias
				return []Range{{bias + Addr(s.Value), bias + Addr(s.Value+s.Size)}}
			}
			inside := map[string]bool{}
			err = p.Trace(func(tr *Tracer) error {
				if err := tr.Stop(time.Second); err != nil {
					return err
				}
				var frames []Frame
				frames, complete = u.Stack(&tr.Threads()[0])
				for _, f := range frames {
					n, _, _ := strings.Cut(u.Name(f.PC), "+")
					names = append(names, n)
				}
				for _, fn := range []string{"innermost", "handler", "b", "recurse", "main", "storm", "brief"} {
					var ok bool
					if hits, ok = u.Inside(tr.Threads(), ranges(fn), nil); !ok {
						t.Errorf("inside %s: not known", fn)
					}
					inside[fn] = len(hits) == 1 && hits[0].Sure
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var ours []string
			for _, n := range names {
				if s, ok := syms[n]; ok && s.Size > 0 && (n == "innermost" || n == "handler" || n == "b" || n == "recurse" || n == "main") {
					ours = append(ours, n)
				}
			}
			want := []string{"innermost", "handler", "b"}
			for range 41 {
				want = append(want, "recurse")
			}
			if diff := cmp.Diff(append(want, "main"), ours); diff != "" || !complete {
				t.Errorf("complete %v; frames (-want +got):\n%s\nall: %v", complete, diff, names)
			}
			if diff := cmp.Diff(map[string]bool{
				"innermost": true, "handler": true, "b": true, "recurse": true, "main": true, "storm": false, "brief": false,
			}, inside); diff != "" {
				t.Errorf("inside (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStormOfThreads(t *testing.T) {
	g := run(t, build(t, "stacks.c"), "storm")
	p := open(t, g)
	stops, early := 0, 0
	for range 50 {
		err := p.Trace(func(tr *Tracer) error {
			if err := tr.Stop(50 * time.Millisecond); err != nil {
				return err
			}
			defer tr.Resume()
			tids, err := p.Tids()
			if err != nil {
				return err
			}
			for _, tid := range tids {
				st, err := p.Stat(tid)
				if err != nil || st.State != 't' && st.State != 'Z' && st.State != 'X' {
					t.Errorf("thread %d is not held: %c, %v", tid, st.State, err)
				}
			}
			return nil
		})
		if _, busy := err.(*BusyError); busy {
			early++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		stops++
		time.Sleep(time.Millisecond)
	}
	if stops < 10 {
		t.Errorf("%d stops, %d gave up", stops, early)
	}
	if _, err := g.in.Write([]byte("k")); err != nil {
		t.Fatal(err)
	}
	if s := g.line(); s != "k" {
		t.Errorf("answer %q", s)
	}
}

// TestStackNowhere: a stack pointer that leads to no mapping is not known, and
// does no harm to what is looked at next.
func TestStackNowhere(t *testing.T) {
	g := run(t, build(t, "check.c"), "idle", "1")
	p := open(t, g)
	u, err := NewUnwinder(p)
	if err != nil {
		t.Fatal(err)
	}
	err = p.Trace(func(tr *Tracer) error {
		if err := tr.Stop(time.Second); err != nil {
			return err
		}
		for range 3 {
			lost := slices.Clone(tr.Threads())
			lost[0].Regs.Rsp = 8
			lost[0].Regs.Rip = 8
			if _, ok := u.Inside(lost, []Range{{1, 2}}, nil); ok {
				t.Error("a stack that is not mapped is known")
			}
			if hits, ok := u.Inside(tr.Threads(), []Range{{1, 2}}, nil); !ok || len(hits) > 0 {
				t.Errorf("after it: %v, ok %v", hits, ok)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestExited(t *testing.T) {
	g := run(t, build(t, "check.c"), "idle", "2")
	p := open(t, g)
	if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = g.cmd.Wait()
	if p.Alive() {
		t.Error("a dead process is alive")
	}
	if _, err := p.Maps(); !isExited(err) {
		t.Errorf("maps: %v", err)
	}
	if err := p.Trace(func(tr *Tracer) error { return tr.Stop(time.Second) }); !isExited(err) {
		t.Errorf("stop: %v", err)
	}
	if err := p.Write(4096, []byte{1}); !isExited(err) {
		t.Errorf("write: %v", err)
	}
	if _, err := Open(p.Pid, nil); !isExited(err) {
		t.Errorf("open: %v", err)
	}
}
