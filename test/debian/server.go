package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// daemon is a server process, with the processes that it has forked.
type daemon struct {
	cmd  *exec.Cmd
	said *sink
	done chan struct{} // closed when the process has ended
}

// sink keeps what a process writes, for error messages.
type sink struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes.Len() > 1<<16 {
		s.bytes.Reset()
	}
	return s.bytes.Write(p)
}

// String is the last line.
func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(s.bytes.String()), "\n")
	return lines[len(lines)-1]
}

// startDaemon runs a server and waits until it accepts connections at addr.
// args[0] is the program's file.
func startDaemon(ctx context.Context, p place, addr string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(args[0], args[1:]...), said: &sink{}, done: make(chan struct{})}
	d.cmd.Env = p.environment()
	d.cmd.Dir = p.scratch
	d.cmd.Stdout, d.cmd.Stderr = d.said, d.said
	// Its children must end with it, and it with this program.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(args[0]), err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	for range 100 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return d, nil
		}
		select {
		case <-d.done:
			return nil, fmt.Errorf("start %s: it ended: %s", filepath.Base(args[0]), d.said)
		case <-ctx.Done():
			d.stop()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	d.stop()
	return nil, fmt.Errorf("start %s: it does not listen on %s: %s", filepath.Base(args[0]), addr, d.said)
}

// stop ends the process group of the server.
func (d *daemon) stop() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.done
}

// alive is an error when the process has ended.
func (d *daemon) alive() error {
	select {
	case <-d.done:
		return fmt.Errorf("the server has ended: %v: %s", d.cmd.ProcessState, d.said)
	default:
		return nil
	}
}

// tree lists the process and its children.
func (d *daemon) tree() []int {
	pids := []int{d.cmd.Process.Pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pids[0]))
	for field := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freePorts returns addresses on loopback where nothing listens.
func freePorts(n int) ([]string, error) {
	var out []string
	var errs error
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, errs
}
