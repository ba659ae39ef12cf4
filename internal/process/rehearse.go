package process

import (
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Rehearse borrows a thread of a process of its own a few times: what this
// program does for the first time takes three times as long, and that should
// not be while threads of somebody's process are held. Without sleep(1), or
// when it goes wrong, only time is lost.
func Rehearse() {
	cmd := exec.Command("sleep", "10")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cmd.Start() != nil {
		return
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	p, err := Open(cmd.Process.Pid, nil)
	if err != nil {
		return
	}
	defer p.Close()
	for range 100 { // until it has loaded its C library
		if maps, err := p.Maps(); err == nil {
			if g, err := p.FindGadgets(maps); err == nil {
				rehearse(p, g)
				return
			}
		}
		time.Sleep(100 * time.Microsecond)
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
