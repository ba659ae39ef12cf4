package process

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRights: the kernel's rules on tracing hold for whoever runs this. Without
// capabilities nobody else's process is opened, and of one's own not the files
// that it has mapped, so that nothing in it can be patched.
func TestRights(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	const nobody = 65534
	sleeper := func(uid uint32) int {
		cmd := exec.Command("sleep", "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // by the signal
		})
		return cmd.Process.Pid
	}
	others, own := sleeper(0), sleeper(nobody)
	type result struct{ others, own error }
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var r result
		defer func() { done <- r }()
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
			r.others = e
			return
		}
		_, r.others = Open(others, nil)
		var p *Process
		if p, r.own = Open(own, nil); r.own != nil {
			return // Yama forbids even that (ptrace_scope)
		}
		defer p.Close()
		var mods []Module
		if mods, r.own = p.Modules(); r.own == nil {
			_, r.own = p.Identity(&mods[0])
		}
	}()
	r := <-done
	for what, err := range map[string]error{"another user's process": r.others, "the files of one's own": r.own} {
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
