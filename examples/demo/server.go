package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// flags are those that Debian builds its packages with, plus a strip: the
// builds are as those of a distribution are.
var flags = []string{
	"-O2", "-g0", "-s", "-pthread", "-fPIE", "-pie", "-fstack-protector-strong",
	"-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now,--build-id",
}

// compile builds the server from the folder of its source to out.
func compile(ctx context.Context, folder, out string, extra ...string) error {
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return errors.New("a C compiler is missing: apt install gcc libc6-dev")
	}
	args := append([]string{"-o", out, filepath.Join(folder, "sessiond.c")}, flags...)
	said, err := exec.CommandContext(ctx, cc, append(args, extra...)...).CombinedOutput()
	if strings.Contains(string(said), ".h: No such file") || strings.Contains(string(said), "cannot find -lc") {
		return fmt.Errorf("the C library's headers are missing: apt install gcc libc6-dev\n%s", said)
	}
	if err != nil {
		return fmt.Errorf("compile sessiond: %w\n%s", err, said)
	}
	return nil
}

// server is a running sessiond.
type server struct {
	cmd  *exec.Cmd
	addr string
	done chan struct{} // closed when the process has ended
}

// start runs the server at path and waits until it says where it listens.
func start(path string) (*server, error) {
	cmd := exec.Command(path)
	cmd.Stderr = os.Stderr
	// A kill of this program must not leave the server behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start sessiond: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sessiond: %w", err)
	}
	s := &server{cmd: cmd, done: make(chan struct{})}
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(text)
		_ = cmd.Wait()
		close(s.done)
	}()
	select {
	case text := <-line:
		addr, ok := strings.CutPrefix(text, "listening on ")
		if !ok {
			s.stop()
			return nil, fmt.Errorf("start sessiond: it says %q", text)
		}
		s.addr = addr
		return s, nil
	case <-time.After(5 * time.Second):
		s.stop()
		return nil, errors.New("start sessiond: it does not listen after 5 s")
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// alive reports whether the process still runs.
func (s *server) alive() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// stop ends the process.
func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	<-s.done
}
