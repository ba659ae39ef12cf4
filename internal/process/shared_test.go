package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shares starts processes that share memory, and returns what they say.
func shares(t *testing.T, args ...string) (pid int, lines []string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to look into processes")
	}
	g := run(t, build(t, "shared.c"), args...)
	for l := g.line(); l != "end"; l = g.line() {
		lines = append(lines, l)
	}
	return g.cmd.Process.Pid, lines
}

// TestTogether: among many processes of one program, those that share memory
// are found, and no others.
func TestTogether(t *testing.T) {
	const forks = 101 // more than are compared one by one
	parent, lines := shares(t, fmt.Sprint(forks))
	pids := []int{parent}
	peer := map[int]int{}
	for _, l := range lines {
		var a, b int
		if _, err := fmt.Sscan(l, &a, &b); err != nil {
			t.Fatal(err)
		}
		if pids = append(pids, a); b != 0 {
			pids = append(pids, b)
			peer[a], peer[b] = b, a
		}
	}
	if len(peer) != forks/2*2 {
		t.Fatalf("%d processes share memory, want %d", len(peer), forks/2*2)
	}
	groups := Together(pids)
	cache := NewCache()
	for i, pid := range pids {
		for j, other := range pids {
			if together := groups[i] == groups[j]; together != (i == j || peer[pid] == other) {
				t.Errorf("processes %d and %d: one memory %t", pid, other, together)
			}
		}
		p, err := Open(pid, cache)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Meet(); err != nil {
			t.Fatal(err)
		}
		got := p.Sharing()
		if other := peer[pid]; other == 0 && len(got) != 0 || other != 0 && (len(got) != 2 || got[1].Pid != other || got[1].Start == 0) {
			t.Errorf("process %d shares memory with %v, want %d", pid, got, other)
		}
		p.Close()
	}
}

// TestHidden: a process that may not be looked at is not taken for one that has
// nothing to do with the memory.
func TestHidden(t *testing.T) {
	const nobody = 65534
	_, lines := shares(t, "as", fmt.Sprint(nobody))
	pid := atoi(strings.Join(lines, ""))
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 {
			done <- e
			return
		}
		p, err := Open(pid, nil)
		if err == nil {
			err = p.Meet()
			p.Close()
		}
		done <- err
	}()
	var shared *SharedError
	if err := <-done; !errors.As(err, &shared) || shared.Pid != pid || !errors.Is(err, unix.EACCES) {
		t.Errorf("error %v, want that process %d shares its memory", err, pid)
	}
}

// TestNotYetMet: while threads are held, nobody goes through all processes of
// the machine, not even the first time.
func TestNotYetMet(t *testing.T) {
	var s peers
	if _, _, err := s.of(program{}, os.Getpid(), true); !errors.Is(err, errHeld) {
		t.Errorf("%v, want %v", err, errHeld)
	}
	if len(s.seen) > 0 {
		t.Errorf("%d processes were looked at", len(s.seen))
	}
}
