package process

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper starts a process of our own that does nothing, and opens it.
func sleeper() (p *Process, end func(), err error) {
	cmd := exec.Command("sleep", "10")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start a process to try with: %w", err)
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if p, err = Open(cmd.Process.Pid, nil); err != nil {
		stop()
		return nil, nil, err
	}
	return p, func() { p.Close(); stop() }, nil
}

// settled waits until it has loaded its C library.
func (p *Process) settled() (g Gadgets, err error) {
	for range 100 {
		var maps []Mapping
		if maps, err = p.Maps(); err == nil {
			if g, err = p.FindGadgets(maps); err == nil {
				return g, nil
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	return g, err
}

// Rehearse borrows a thread of a process of its own a few times: what this
// program does for the first time takes three times as long, and that should
// not be while threads of somebody's process are held. Without sleep(1), or
// when it goes wrong, only time is lost.
func Rehearse() {
	p, end, err := sleeper()
	if err != nil {
		return
	}
	defer end()
	if g, err := p.settled(); err == nil {
		rehearse(p, g)
	}
}

func rehearse(p *Process, g Gadgets) {
	for range 4 {
		_ = p.Trace(func(t *Tracer) error {
			_, err := t.Borrow(p.Pid, g, 10*time.Millisecond, func(call Call) error {
				_, err := call(unix.SYS_GETPPID)
				return err
			})
			return err
		})
	}
}
