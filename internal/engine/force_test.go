package engine

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noForce has writes to /proc/PID/mem fail in this program as they do for pages
// that are not writable where the kernel was started with
// proc_mem.force_override=never (Linux 6.12): a filter answers pwrite64 with EIO.
func noForce() {
	f := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PWRITE64, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		panic(e)
	}
	runtime.KeepAlive(f)
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer mem.Close()
	var b [1]byte
	if _, err := mem.WriteAt(b[:], int64(uintptr(unsafe.Pointer(&b)))); err == nil {
		panic("writes go through")
	}
}

// TestNoForce: where /proc/PID/mem writes nothing, a tracer's PTRACE_POKETEXT
// does, for the overlay, the entries and the way back.
func TestNoForce(t *testing.T) {
	for _, kind := range []string{"server.c", "throw.cc"} {
		t.Run(kind, func(t *testing.T) {
			prog, p := pair(t, kind)
			target := Target{Patches: []string{savePatch(t, p)}}
			g := run(t, prog, "3", "busy")
			target.Pid = g.pid()
			cmd, was := "v", oldSum
			if kind == "throw.cc" {
				cmd = "x"
				was = g.ask(cmd)
			}
			t.Setenv("ENGINE_WORKER", "1")
			t.Setenv("ENGINE_NO_FORCE", "1")
			c := Client{Args: []string{"/proc/self/exe"}}
			opts := Options{Store: filepath.Join(t.TempDir(), "store")}
			do := func(op Op, want State) {
				t.Helper()
				res, err := c.Do(context.Background(), Request{Op: op, Options: opts, Pids: []Target{target}}, nil)
				if err != nil || len(res) != 1 {
					t.Fatalf("results %+v, %v", res, err)
				}
				wantState(t, res[0], want)
			}
			for range 2 {
				do(OpApply, Patched)
				if got := g.ask(cmd); got == was {
					t.Errorf("after apply: %s, as before", got)
				}
				do(OpVerify, Verified)
				do(OpRemove, Removed)
				g.want(cmd, was)
			}
		})
	}
}
