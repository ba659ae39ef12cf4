package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed targets/hold.c
var holdSource string

// holder starts programs that stop before main.
type holder struct{ library, host string }

// newHolder compiles what is preloaded, and a program that does nothing.
func newHolder(ctx context.Context, dir string) (holder, error) {
	h := holder{filepath.Join(dir, "hold.so"), filepath.Join(dir, "host")}
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return h, errors.New("a C compiler is missing: apt install gcc libc6-dev")
	}
	for _, c := range []struct {
		source string
		args   []string
	}{
		{holdSource, []string{"-shared", "-fPIC", "-o", h.library}},
		{"int main(void) { return 0; }\n", []string{"-o", h.host}},
	} {
		cmd := exec.CommandContext(ctx, cc, append([]string{"-O2", "-Wall", "-x", "c", "-"}, c.args...)...)
		cmd.Stdin = strings.NewReader(c.source)
		if out, err := cmd.CombinedOutput(); err != nil {
			return h, fmt.Errorf("compile what holds programs: %w\n%s", err, out)
		}
	}
	return h, nil
}

// held is a program that stopped before main.
type held struct {
	cmd  *exec.Cmd
	in   *os.File
	out  *os.File
	read *bufio.Reader
	said *bytes.Buffer // on standard error
}

// order is what to start and how.
type order struct {
	program   string
	args      []string
	env       []string // besides what all have
	output    *os.File // for standard output, when it is wanted
	libraries []string // loaded in turn once the program is
	lazy      bool     // their calls are not bound
	loader    string   // of the packages of the C library
	folders   []string // of libraries
	dir       string   // to work in
}

// start runs a program, held before main.
func (h holder) start(o order) (*held, error) {
	args := append([]string{o.program}, o.args...)
	if o.loader != "" {
		args = append([]string{o.loader}, args...)
	}
	t := &held{cmd: exec.Command(args[0], args[1:]...), said: &bytes.Buffer{}}
	t.cmd.Dir = o.dir
	t.cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + o.dir, "TMPDIR=" + o.dir, "LC_ALL=C.UTF-8",
		"LD_PRELOAD=" + h.library, "LD_LIBRARY_PATH=" + strings.Join(o.folders, ":"),
	}
	t.cmd.Env = append(t.cmd.Env, o.env...)
	if o.output != nil {
		t.cmd.Stdout = o.output
	}
	if len(o.libraries) > 0 {
		t.cmd.Env = append(t.cmd.Env, "HOLD_LOAD="+strings.Join(o.libraries, "\n"))
	}
	if o.lazy {
		t.cmd.Env = append(t.cmd.Env, "HOLD_LAZY=1")
	}
	t.cmd.Stderr = t.said
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	t.cmd.WaitDelay = time.Second
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer childOut.Close()
	t.in, t.out, t.read = in, out, bufio.NewReader(out)
	t.cmd.ExtraFiles = []*os.File{childIn, childOut}
	if err := t.cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return nil, &notLoaded{"not-executable", err.Error()}
	}
	if err := childOut.Close(); err != nil {
		t.close()
		return nil, err
	}
	if err := t.await(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// await reads the first line.
func (t *held) await() error {
	_ = t.out.SetReadDeadline(time.Now().Add(20 * time.Second))
	line, err := t.read.ReadString('\n')
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &notLoaded{"not-held", "it does not stop before main within 20 s"}
	case err != nil:
		_ = t.cmd.Process.Kill()
		_ = t.cmd.Wait()
		return explain(t.said.String() + " (" + t.cmd.ProcessState.String() + ")")
	case strings.HasPrefix(line, "failed "):
		return explain(strings.TrimSpace(strings.TrimPrefix(line, "failed ")))
	}
	return nil
}

// ping checks that the program lives and answers.
func (t *held) ping() error {
	if c, err := t.obey('.'); err != nil || c != '.' {
		return fmt.Errorf("the program does not answer: %q, %w", c, err)
	}
	return nil
}

// run lets a copy of the program, as it is in memory now, run its main to the
// end, and returns its exit status, or 128 and the signal that ended it.
func (t *held) run() (byte, error) {
	status, err := t.obey('r')
	if err != nil {
		return 0, fmt.Errorf("run a copy of the program: %w", err)
	}
	return status, nil
}

// obey gives the program an order, those of hold.c, and returns its answer.
func (t *held) obey(order byte) (byte, error) {
	_ = t.out.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := t.in.Write([]byte{order}); err != nil {
		return 0, fmt.Errorf("the program has ended: %w", err)
	}
	return t.read.ReadByte()
}

func (t *held) close() {
	_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL) // with the copy that may still run
	t.in.Close()
	t.out.Close()
	_ = t.cmd.Wait()
}

// notLoaded is why no process runs the baseline.
type notLoaded struct{ code, detail string }

func (n *notLoaded) Error() string { return n.code + ": " + n.detail }

var (
	missingLibrary = regexp.MustCompile(`(\S+): cannot open shared object file`)
	missingSymbol  = regexp.MustCompile(`undefined symbol: ([^\s,]+)`)
	missingVersion = regexp.MustCompile("version `([^']+)' not found")
)

// explain types what the loader says.
func explain(text string) *notLoaded {
	text = strings.TrimSpace(text)
	for code, re := range map[string]*regexp.Regexp{
		"missing-library": missingLibrary, "undefined-symbol": missingSymbol, "missing-version": missingVersion,
	} {
		if m := re.FindStringSubmatch(text); m != nil {
			return &notLoaded{code, m[1]}
		}
	}
	if strings.Contains(text, "static TLS") {
		return &notLoaded{"static-tls", text}
	}
	return &notLoaded{"ended", firstLines(text)}
}

// text reads the executable mappings of a file in a process.
func text(pid int, file string) ([]byte, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	var out []byte
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[5] != file || !strings.Contains(f[1], "x") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 63)
		end, err2 := strconv.ParseUint(to, 16, 63)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read the maps of %d: %w", pid, err)
		}
		piece := make([]byte, end-start)
		if _, err := io.ReadFull(io.NewSectionReader(mem, int64(start), int64(end-start)), piece); err != nil {
			return nil, fmt.Errorf("read the code of %s in %d: %w", file, pid, err)
		}
		out = append(out, piece...)
	}
	return out, nil
}

// interpreted says whether a file names the dynamic loader: what does not
// cannot be held.
func interpreted(at string) bool {
	o, err := elf.Open(at)
	if err != nil {
		return false
	}
	defer o.Close()
	for _, p := range o.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}
