package process

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Trial is one thing that was tried on a process of our own. Without Needed, it
// is something that can be done without.
type Trial struct {
	What   string
	Needed bool
	Err    error
}

// ErrNotTried means that something else has to work first.
var ErrNotTried = errors.New("not tried: what it needs does not work")

// Try does to a process of our own, which it starts, what is done to those that
// are patched, and says what works.
func Try() []Trial {
	var out []Trial
	tried := func(what string, needed bool, do func() error) bool {
		err := do()
		out = append(out, Trial{what, needed, err})
		return err == nil
	}
	p, end, err := sleeper()
	if !tried("open a process: pidfd_open(2), /proc/PID/mem", true, func() error { return err }) {
		return out
	}
	defer end()
	var g Gadgets
	tried("read its memory", true, func() (err error) { g, err = p.settled(); return err })
	tried("open the files that it has mapped: /proc/PID/map_files", true, func() error {
		mods, err := p.Modules()
		if err == nil && len(mods) == 0 {
			err = errors.New("no module is seen")
		}
		if err != nil {
			return err
		}
		_, err = p.File(&mods[0])
		return err
	})
	tried("see whether processes share memory: kcmp(2)", true, func() error {
		n, err := compareMemory(p.Pid, p.Pid)
		if err == nil && n != 0 {
			err = errors.New("a process is told not to share its own memory")
		}
		return errors.Join(err, p.Meet())
	})
	seized := tried("stop a thread: PTRACE_SEIZE, PTRACE_INTERRUPT", true, func() error {
		return p.Trace(func(t *Tracer) error { return t.StopOne(p.Pid, time.Second) })
	})
	var at uint64
	mapped := tried("map executable memory in it", true, func() error {
		if !seized {
			return ErrNotTried
		}
		return p.lend(g, func(call Call) (err error) {
			at, err = call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
			return err
		})
	})
	code := []byte("written by its tracer")
	for _, w := range []struct {
		what   string
		needed bool
		write  func() error
	}{
		{"write to code while it runs: /proc/PID/mem", false, func() error { return p.Write(Addr(at), code) }},
		{"write to code of a stopped thread", true, func() error {
			return p.Trace(func(t *Tracer) error {
				if err := t.StopOne(p.Pid, time.Second); err != nil {
					return err
				}
				return t.Write(Addr(at), code)
			})
		}},
	} {
		tried(w.what, w.needed, func() error {
			if !mapped {
				return ErrNotTried
			}
			if err := w.write(); err != nil {
				return err
			}
			got := make([]byte, len(code))
			if err := p.Read(Addr(at), got); err != nil || !bytes.Equal(got, code) {
				return fmt.Errorf("what was written is not there: % x (%w)", got, err)
			}
			return nil
		})
	}
	tried("read many stacks at once: process_vm_readv(2)", true, func() error {
		if !mapped {
			return ErrNotTried
		}
		got := make([]byte, len(code))
		if n := p.readFast(Addr(at), got); n != len(got) || !bytes.Equal(got, code) {
			return errors.New("it reads nothing")
		}
		return nil
	})
	tried("seal new code: mseal(2), Linux 6.10", false, func() error {
		if !mapped {
			return ErrNotTried
		}
		const mseal = 462
		return p.lend(g, func(call Call) error { _, err := call(mseal, at, 4096, 0); return err })
	})
	tried("real-time priority while threads are held", false, func() error {
		return p.Trace(func(*Tracer) error {
			realTime(true)
			defer realTime(false)
			if policy, _, e := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0); e != 0 || policy != 1 {
				return errors.New("it is not given (RLIMIT_RTPRIO, CAP_SYS_NICE, RT group scheduling)")
			}
			return nil
		})
	})
	return out
}

// lend has the process's main thread make system calls.
func (p *Process) lend(g Gadgets, fn func(Call) error) error {
	return p.Trace(func(t *Tracer) error {
		_, err := t.Borrow(p.Pid, g, time.Second, fn)
		return err
	})
}
