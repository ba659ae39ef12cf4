package main

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"hotpatch/test/meter"
)

//go:embed targets
var targets embed.FS

// The libraries are put to work by small programs of our own.
var (
	xz     = libraryPair("xz-utils", "liblzma5", "lzma", true, "liblzma.so.5")
	brotli = libraryPair("brotli", "libbrotli1", "brotli", false, "libbrotlienc.so.1", "libbrotlidec.so.1")
	libgd2 = libraryPair("libgd2", "libgd3", "gd", true, "libgd.so.3")
)

// gio is GLib's library in three builds. The update as a whole changes a struct
// of another of GLib's libraries, and has to be refused.
var gio = func() pair {
	p := libraryPair("glib2.0", "libglib2.0-0", "gio", false, "libgio-2.0.so.0")
	p.alone = true
	p.builds = []build{
		{"2.74.6-2+deb12u7", "715d4dbc3e324534b5317e2ed2c78f69aa45b6b7b720dc76e7fa8ff2621bff81"},
		{"2.74.6-2+deb12u8", "42c565b6b7ef6366a943f061160e18f6cf436809dd17381af0f7fe540a0eeb6a"},
		{"2.74.6-2+deb12u9", "7ff85197685d89e150e342b29a59aab1beee400050ba7da73de81cd999ffee5a"},
	}
	return p
}()

// libraryPair is a pair whose target is the program targets/NAME.c. When the
// builds differ in an answer of the program, asks is set.
func libraryPair(source, pkg, name string, asks bool, modules ...string) pair {
	return pair{
		source: source, packages: []string{pkg}, modules: modules,
		start: func(ctx context.Context, p place) (target, error) { return startLibrary(ctx, p, name, asks, modules) },
	}
}

// libraryTarget is a running program that answers on its standard output to
// lines on its standard input.
type libraryTarget struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said *sink
	asks bool
	mu   sync.Mutex // held for one question and its answer
}

func startLibrary(ctx context.Context, p place, name string, asks bool, modules []string) (target, error) {
	program, err := compile(ctx, name, p.scratch)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, m := range modules {
		path, err := p.find(m)
		if err != nil {
			return nil, err
		}
		args = append(args, path)
	}
	t := &libraryTarget{cmd: exec.Command(program, args...), said: &sink{}, asks: asks}
	t.cmd.Env = p.environment()
	t.cmd.Stderr = t.said
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	t.out = bufio.NewReader(out)
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if _, err := t.question("work"); err != nil {
		t.close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return t, nil
}

// compile builds targets/NAME.c in dir.
func compile(ctx context.Context, name, dir string) (string, error) {
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return "", errors.New("a C compiler is missing: apt install gcc libc6-dev")
	}
	for _, file := range []string{name + ".c", "library.h"} {
		text, err := targets.ReadFile("targets/" + file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), text, 0o644)
		}
		if err != nil {
			return "", fmt.Errorf("write the target's source: %w", err)
		}
	}
	program := filepath.Join(dir, name)
	if out, err := exec.CommandContext(ctx, cc, "-O2", "-pthread", "-o", program, program+".c", "-ldl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile %s.c: %w\n%s", name, err, out)
	}
	return program, nil
}

// question sends a line and returns what follows its first word in the answer.
func (t *libraryTarget) question(word string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := io.WriteString(t.in, word+"\n"); err != nil {
		return "", fmt.Errorf("the program has ended: %s: %w", t.said, err)
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the program has ended: %s: %w", t.said, err)
	}
	answer, ok := strings.CutPrefix(strings.TrimSpace(line), word+" ")
	if !ok {
		return "", fmt.Errorf("answer %q to %q", line, word)
	}
	return answer, nil
}

func (t *libraryTarget) pids() []int { return []int{t.cmd.Process.Pid} }

func (t *libraryTarget) ask(context.Context) (string, error) {
	if !t.asks {
		return "", nil
	}
	return t.question("ask")
}

// load counts the work that the program does by itself. A wrong result ends
// the program, and that is what fails.
func (t *libraryTarget) load(ctx context.Context, m *meter.Meter) error {
	last := -1
	for ctx.Err() == nil {
		answer, err := t.question("work")
		if err != nil {
			return m.Do(func() error { return err })
		}
		n, err := strconv.Atoi(answer)
		if err != nil {
			return fmt.Errorf("count of work: %w", err)
		}
		if last >= 0 {
			m.Add(n - last)
		}
		last = n
		rest(ctx, 50*time.Millisecond)
	}
	return nil
}

func (t *libraryTarget) close() {
	_ = t.cmd.Process.Kill()
	_ = t.cmd.Wait()
}
