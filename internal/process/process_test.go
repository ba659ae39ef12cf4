package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// build compiles a program of testdata, optimised and stripped.
func build(t *testing.T, name string, flags ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to trace processes")
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(name, ".c"))
	args := append([]string{"-O2", "-g0", "-s", "-pthread", "-mavx2", "-o", out, "testdata/" + name}, flags...)
	if b, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", name, err, b)
	}
	return out
}

// target is a running test program.
type target struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// run starts a program and waits until it says "ready".
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

func (g *target) line() string {
	s, err := g.out.ReadString('\n')
	if err != nil {
		g.t.Fatalf("read from program: %v (%v)", err, g.cmd.Wait())
	}
	return strings.TrimSpace(s)
}

// rounds asks a check.c that is not busy how far it is: the answer shows that
// it lives and found nothing wrong.
func (g *target) rounds() string {
	if _, err := g.in.Write([]byte("x")); err != nil {
		g.t.Fatalf("write to program: %v", err)
	}
	return g.line()
}

func (g *target) alive() {
	g.t.Helper()
	time.Sleep(50 * time.Millisecond)
	var st unix.WaitStatus
	if pid, err := unix.Wait4(g.cmd.Process.Pid, &st, unix.WNOHANG, nil); err != nil || pid != 0 {
		rest, _ := io.ReadAll(g.out)
		g.t.Fatalf("program ended: %v %#x signal %v %s", err, int(st), st.Signal(), rest)
	}
}

func open(t *testing.T, g *target) *Process {
	t.Helper()
	p, err := Open(g.cmd.Process.Pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func TestStop(t *testing.T) {
	prog := build(t, "check.c")
	for _, c := range []struct{ mode, n string }{
		{"calls", "1"},
		{"busy", "1"},
		{"calls", "13"},
		{"idle", "8"},
		{"mixed", "8"},
		{"busy", "8"},
		{"idle", "64"},
		{"mixed", "64"},
		{"idle", "512"},
	} {
		t.Run(c.mode+c.n, func(t *testing.T) {
			g := run(t, prog, c.mode, c.n)
			p := open(t, g)
			u, err := NewUnwinder(p)
			if err != nil {
				t.Fatal(err)
			}
			var held []time.Duration
			incomplete := 0
			err = p.Trace(func(tr *Tracer) error {
				for range 50 {
					if err := tr.Stop(10 * time.Second); err != nil {
						return err
					}
					if got := len(tr.Threads()); got != atoi(c.n) {
						t.Errorf("stopped %d threads, want %s", got, c.n)
					}
					for i := range tr.Threads() {
						if fr, ok := u.Stack(&tr.Threads()[i]); !ok {
							incomplete++
							if incomplete < 4 {
								for _, f := range fr {
									t.Log(f, u.Name(f.PC))
								}
							}
						}
					}
					tr.Resume()
					if err := tr.Stop(10 * time.Second); err != nil {
						return err
					}
					if _, ok := u.Inside(tr.Threads(), []Range{{1, 2}}, nil); !ok {
						t.Error("inside: not ok")
					}
					held = append(held, tr.Resume())
					time.Sleep(time.Millisecond)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if incomplete > 0 {
				t.Errorf("%d incomplete walks", incomplete)
			}
			t.Logf("median %v of stop, check and resume", median(held))
			g.alive()
			if c.mode == "calls" {
				g.rounds()
			}
		})
	}
}

// TestCannotBeLetGo: a thread that cannot be stopped cannot be let go either. The
// next attempt meets nothing of the one before.
func TestCannotBeLetGo(t *testing.T) {
	g := run(t, build(t, "vfork.c"))
	p := open(t, g)
	defer func() {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.Pid)); err == nil {
			_ = unix.Kill(atoi(strings.TrimSpace(string(b))), unix.SIGKILL)
		}
	}()
	for st, err := p.Stat(0); st.State != 'D'; st, err = p.Stat(0) {
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		err := p.Trace(func(tr *Tracer) error { return tr.StopOne(p.Pid, time.Millisecond) })
		if !errors.As(err, new(*BusyError)) {
			t.Fatalf("error %v, want a thread that is busy", err)
		}
	}
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

func TestBorrow(t *testing.T) {
	prog := build(t, "check.c")
	for _, c := range []struct{ mode, n string }{{"calls", "13"}, {"busy", "1"}, {"mixed", "4"}} {
		t.Run(c.mode+c.n, func(t *testing.T) {
			g := run(t, prog, c.mode, c.n)
			p := open(t, g)
			maps, err := p.Maps()
			if err != nil {
				t.Fatal(err)
			}
			gad, err := p.FindGadgets(maps)
			if err != nil {
				t.Fatal(err)
			}
			tids, err := p.Tids()
			if err != nil {
				t.Fatal(err)
			}
			var held []time.Duration
			calls, skipped := 0, 0
			err = p.Trace(func(tr *Tracer) error {
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
					for _, tid := range tids {
						d, err := tr.Borrow(tid, gad, 500*time.Millisecond, func(call Call) error {
							for range 2 {
								if pid, err := call(unix.SYS_GETPID); err != nil || int(pid) != p.Pid {
									t.Errorf("getpid = %d, %v; want %d", pid, err, p.Pid)
								}
							}
							_, err := call(unix.SYS_CLOSE, ^uint64(0))
							if err != unix.EBADF {
								t.Errorf("close(-1) = %v", err)
							}
							return nil
						})
						if err != nil {
							skipped++
							if skipped < 3 {
								t.Log(err)
							}
							continue
						}
						held = append(held, d)
						calls += 3
					}
					time.Sleep(200 * time.Microsecond)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d calls, %d skipped, median %v for three", calls, skipped, median(held))
			if calls < 100 {
				t.Errorf("only %d calls", calls)
			}
			g.alive()
			if c.mode == "calls" {
				g.rounds()
			}
		})
	}
}
