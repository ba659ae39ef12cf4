package process

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain turns the test binary into a tracer that dies when told to: after
// so many steps, or never (the parent kills it).
func TestMain(m *testing.M) {
	if s := os.Getenv("TRACER_PID"); s != "" {
		steps, _ := strconv.Atoi(os.Getenv("TRACER_STEPS"))
		fmt.Println(trace(atoi(s), steps))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func trace(pid, steps int) error {
	p, err := Open(pid, nil)
	if err != nil {
		return err
	}
	maps, err := p.Maps()
	if err != nil {
		return err
	}
	g, err := p.FindGadgets(maps)
	if err != nil {
		return err
	}
	tids, err := p.Tids()
	if err != nil {
		return err
	}
	return p.Trace(func(tr *Tracer) error {
		if steps < 0 {
			err := tr.Stop(time.Second)
			fmt.Println("holds")
			time.Sleep(10 * time.Second)
			return err
		}
		n := 0
		tr.step = func(s string) {
			if n++; n == steps {
				fmt.Println("dies at:", s)
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		}
		for i := 0; ; i++ {
			if os.Getenv("TRACER_SENDS") != "" {
				if _, err := sendUntilBack(tr, tids[i%len(tids)], g, unix.SYS_GETPID); err != nil && !errors.Is(err, ErrNoThread) {
					return err
				}
				continue
			}
			_, err := tr.Borrow(tids[i%len(tids)], g, 10*time.Second, func(call Call) error {
				for range 2 {
					if got, err := call(unix.SYS_GETPID); err != nil || int(got) != pid {
						return fmt.Errorf("getpid = %d, %w", got, err)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	})
}

func tracer(pid, steps int) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "TRACER_PID="+strconv.Itoa(pid), "TRACER_STEPS="+strconv.Itoa(steps))
	return cmd
}

// TestSenderDies kills the tracer of threads that are sent.
func TestSenderDies(t *testing.T) {
	t.Setenv("TRACER_SENDS", "1")
	prog := build(t, "check.c")
	for _, mode := range [][2]string{{"calls", "13"}, {"busy", "1"}} {
		t.Run(mode[0]+mode[1], func(t *testing.T) {
			g := run(t, prog, mode[0], mode[1])
			for steps := 1; steps <= 9; steps++ { // three a thread
				out, err := tracer(g.cmd.Process.Pid, steps).CombinedOutput()
				if err == nil {
					t.Fatalf("tracer did not die: %s", out)
				}
				t.Logf("%s", out)
				g.alive()
			}
		})
	}
}

func TestTracerDies(t *testing.T) {
	prog := build(t, "check.c")
	for _, mode := range [][2]string{{"calls", "13"}, {"calls", "1"}, {"busy", "1"}} {
		t.Run(mode[0]+mode[1], func(t *testing.T) {
			g := run(t, prog, mode[0], mode[1])
			for steps := 1; steps <= 20; steps++ { // one loan has fewer
				out, err := tracer(g.cmd.Process.Pid, steps).CombinedOutput()
				if err == nil {
					t.Fatalf("tracer did not die: %s", out)
				}
				t.Logf("%s", out)
				g.alive()
			}
			t.Setenv("LENIENT", "1")
			g = run(t, prog, mode[0], mode[1])
			for range 40 {
				cmd := tracer(g.cmd.Process.Pid, 0)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(20*time.Millisecond + rand.N(20*time.Millisecond))
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			g.alive()
			if mode[0] == "calls" {
				g.rounds()
			}
		})
	}
}

func TestStoppedStaysStopped(t *testing.T) {
	g := run(t, build(t, "check.c"), "calls", "3")
	p := open(t, g)
	maps, _ := p.Maps()
	gad, err := p.FindGadgets(maps)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(p.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for st, _ := p.Stat(0); st.State != 'T'; st, _ = p.Stat(0) {
		time.Sleep(time.Millisecond)
	}
	err = p.Trace(func(tr *Tracer) error {
		for range 20 {
			if err := tr.Stop(time.Second); err != nil {
				return err
			}
			tr.Resume()
			if _, err := tr.Borrow(p.Pid, gad, time.Second, func(call Call) error {
				_, err := call(unix.SYS_GETPID)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	tids, _ := p.Tids()
	for _, tid := range tids {
		if st, err := p.Stat(tid); err != nil || st.State != 'T' {
			t.Errorf("thread %d: state %c, %v; want T", tid, st.State, err)
		}
	}
	if err := unix.Kill(p.Pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.alive()
	g.rounds()
}

func TestTraced(t *testing.T) {
	g := run(t, build(t, "check.c"), "calls", "2")
	p := open(t, g)
	cmd := tracer(g.cmd.Process.Pid, -1)
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 5)) // "holds"
	defer cmd.Wait()                 //nolint:errcheck // it was killed
	defer cmd.Process.Kill()         //nolint:errcheck // as above
	var traced *TracedError
	err := p.Trace(func(tr *Tracer) error { return tr.Stop(time.Second) })
	if !errors.As(err, &traced) || traced.Name != "exe" {
		t.Errorf("error %v; want it to name tracer %d", err, cmd.Process.Pid)
	}
}
