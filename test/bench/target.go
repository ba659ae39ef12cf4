package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed target/pause.c
var source []byte

const mostThreads = 512

// page is what a target writes while it measures itself: struct page of
// target/pause.c. Times are nanoseconds, of calls picoseconds.
type page struct {
	ready, build, gap          atomic.Int64
	changed, unchanged, rounds atomic.Int64
	own                        [mostThreads]atomic.Int64
}

// target is a running program of target/pause.c.
type target struct {
	cmd  *exec.Cmd
	page *page
	raw  []byte
}

// compile builds target/pause.c with as many functions to change, in both
// versions, and a patch between them, and returns the files.
func (b *bench) compile(ctx context.Context, functions int) (baseline, patch string, err error) {
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return "", "", errors.New("a C compiler is missing: apt install gcc libc6-dev")
	}
	c := filepath.Join(b.dir, "pause.c")
	if err := os.WriteFile(c, source, 0o644); err != nil {
		return "", "", fmt.Errorf("write target/pause.c: %w", err)
	}
	baseline = filepath.Join(b.dir, fmt.Sprintf("target-%d", functions))
	fixed := baseline + ".fixed"
	for out, extra := range map[string]string{baseline: "-DBASELINE", fixed: "-DFIXED"} {
		said, err := exec.CommandContext(ctx, cc, "-O2", "-g0", "-s", "-pthread", "-fPIE", "-pie", "-fstack-protector-strong",
			"-Wl,-z,relro,-z,now,--build-id", extra, fmt.Sprintf("-DTENS=%d", functions/10), "-o", out, c).CombinedOutput()
		if err != nil {
			return "", "", fmt.Errorf("compile target/pause.c: %w\n%s", err, said)
		}
	}
	patch = baseline + ".hotpatch"
	report, err := b.tool.BuildPatch(ctx, baseline, fixed, patch)
	if err != nil {
		return "", "", err
	}
	for _, m := range report.Modules {
		if m.Verdict != "patchable" || m.Functions.Changed != functions {
			return "", "", fmt.Errorf("the target's patch is %s and changes %d functions, not %d", m.Verdict, m.Functions.Changed, functions)
		}
	}
	return baseline, patch, nil
}

// start runs the target with some threads; 0 times calls. More arguments are passed on.
func start(ctx context.Context, program string, threads int, more ...string) (*target, error) {
	shared, err := os.CreateTemp(filepath.Dir(program), "page-")
	if err != nil {
		return nil, fmt.Errorf("share a page: %w", err)
	}
	defer os.Remove(shared.Name())
	defer shared.Close()
	size := int(unsafe.Sizeof(page{}))
	if err := shared.Truncate(int64(size)); err != nil {
		return nil, fmt.Errorf("share a page: %w", err)
	}
	raw, err := unix.Mmap(int(shared.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("share a page: %w", err)
	}
	t := &target{cmd: exec.Command(program, append([]string{shared.Name(), strconv.Itoa(threads)}, more...)...), raw: raw, page: (*page)(unsafe.Pointer(&raw[0]))}
	t.cmd.Stderr = os.Stderr
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the target: %w", err)
	}
	for range 200 {
		if t.page.ready.Load() >= int64(max(1, threads)) {
			return t, nil
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			t.stop()
			return nil, err
		}
	}
	t.stop()
	return nil, errors.New("start the target: its threads do not come up")
}

func (t *target) pid() int { return t.cmd.Process.Pid }

func (t *target) stop() {
	_ = t.cmd.Process.Kill()
	_ = t.cmd.Wait()
	_ = unix.Munmap(t.raw)
}

// gaps are the longest times that a target saw since reset.
type gaps struct {
	all time.Duration // in which no thread ran
	own time.Duration // of any one thread that runs
}

func (t *target) reset() {
	t.page.gap.Store(0)
	for i := range t.page.own {
		if t.page.own[i].Load() > 0 {
			t.page.own[i].Store(0)
		}
	}
}

func (t *target) read() gaps {
	g := gaps{all: time.Duration(t.page.gap.Load())}
	for i := range t.page.own {
		g.own = max(g.own, time.Duration(t.page.own[i].Load()))
	}
	return g
}

// expect waits until the target calls the functions of a build: 1 is the
// baseline, 2 the fixed one.
func (t *target) expect(ctx context.Context, build int64) error {
	for range 100 {
		if t.page.build.Load() == build {
			return nil
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the target runs build %d, not %d", t.page.build.Load(), build)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
