package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hotpatch/test/archive"
	"hotpatch/test/meter"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

// builds fetches both builds of a package and returns their folders and that
// of the libraries that they need.
func (b *bench) builds(ctx context.Context, pkg string) (older, newer, libraries string, err error) {
	if err := b.openArchive(ctx); err != nil {
		return "", "", "", err
	}
	baseline, fixed, err := b.archive.NewestTwo(ctx, pkg)
	if err != nil {
		return "", "", "", err
	}
	for build, version := range map[string]string{"baseline": baseline, "fixed": fixed} {
		deb, err := b.archive.Fetch(ctx, pkg, version)
		if err != nil {
			return "", "", "", err
		}
		dir := filepath.Join(b.dir, pkg, build)
		if err := archive.Unpack(ctx, deb, dir); err != nil {
			return "", "", "", err
		}
		libraries = filepath.Join(b.dir, pkg, "libraries")
		if err := b.archive.Libraries(ctx, deb, libraries); err != nil {
			return "", "", "", err
		}
	}
	return filepath.Join(b.dir, pkg, "baseline"), filepath.Join(b.dir, pkg, "fixed"), libraries, nil
}

// build times `hotpatch build` on two large modules.
func (b *bench) build(ctx context.Context) error {
	const times = 5
	var rows [][]string
	for _, c := range []struct{ pkg, file string }{
		{"libssl3", "usr/lib/x86_64-linux-gnu/libcrypto.so.3"},
		{"redis-tools", "usr/bin/redis-check-rdb"},
	} {
		older, newer, _, err := b.builds(ctx, c.pkg)
		if err != nil {
			return err
		}
		var took, memory []float64 // seconds, MiB
		var verdict string
		for range times {
			cmd := exec.CommandContext(ctx, b.tool.Path, "build", "--json", "-o", filepath.Join(b.dir, "timed.hotpatch"),
				filepath.Join(older, c.file), filepath.Join(newer, c.file))
			began := time.Now()
			err := cmd.Run()
			took = append(took, time.Since(began).Seconds())
			var exit *exec.ExitError
			if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != tool.ExitRefused) {
				return fmt.Errorf("build %s: %w", c.file, err)
			}
			verdict = map[bool]string{true: "patchable", false: "refused"}[err == nil]
			usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			if !ok {
				return errors.New("no resource usage of a child")
			}
			memory = append(memory, float64(usage.Maxrss)/1024) // ru_maxrss is in KiB: getrusage(2)
		}
		slices.Sort(took)
		slices.Sort(memory)
		rows = append(rows, []string{
			filepath.Base(c.file), verdict,
			fmt.Sprintf("%.2f", meter.Percentile(took, 50)), fmt.Sprintf("%.2f", took[times-1]), fmt.Sprintf("%.0f", memory[times-1]),
		})
	}
	fmt.Printf("\nBuilding a patch, %d times\n\n", times)
	return table.Write(os.Stdout, []string{"module", "verdict", "median, s", "longest, s", "most memory, MiB"}, rows)
}

// memory applies the haproxy patch to an idle process and compares its private
// memory.
func (b *bench) memory(ctx context.Context) error {
	older, newer, libraries, err := b.builds(ctx, "haproxy")
	if err != nil {
		return err
	}
	program := filepath.Join(older, "usr/sbin/haproxy")
	patch := filepath.Join(b.dir, "haproxy.hotpatch")
	if _, err := b.tool.BuildPatch(ctx, program, filepath.Join(newer, "usr/sbin/haproxy"), patch); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a port: %w", err)
	}
	l.Close()
	config := filepath.Join(b.dir, "haproxy.cfg")
	text := fmt.Sprintf("defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nfrontend f\n bind %s\n", l.Addr())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return fmt.Errorf("configure haproxy: %w", err)
	}
	cmd := exec.Command(program, "-db", "-f", config)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(archive.LibraryDirs(libraries), ":"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start haproxy: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := wait(ctx, 2*time.Second); err != nil {
		return err
	}
	// Pages of a file that is not on disk yet would count as dirty.
	syscall.Sync()
	pid := cmd.Process.Pid
	before, err := private(pid)
	if err != nil {
		return err
	}
	ps, err := b.tool.Apply(ctx, []int{pid}, patch)
	if err != nil {
		return err
	}
	if ps[0].State != "patched" {
		return fmt.Errorf("state %q: %s", ps[0].State, tool.Explain(ps[0].Reasons))
	}
	after, err := private(pid)
	if err != nil {
		return err
	}
	if _, err := b.tool.Rollback(ctx, []int{pid}); err != nil {
		return err
	}
	undone, err := private(pid)
	if err != nil {
		return err
	}
	fmt.Printf("\nMemory of haproxy, KiB: its own (Private_Dirty), and pages of files that happen to be mapped by it alone (Private_Clean)\n\n")
	row := func(what string, f func(usage) int) []string {
		return []string{what, fmt.Sprint(f(before)), fmt.Sprint(f(after)), fmt.Sprint(f(after) - f(before)), fmt.Sprint(f(undone) - f(before))}
	}
	return table.Write(os.Stdout, []string{"", "before", "patched", "added", "left after rollback"}, [][]string{
		row("its own", func(u usage) int { return u.dirty }),
		row("of files", func(u usage) int { return u.clean }),
	})
}

// usage is private memory in KiB.
type usage struct{ dirty, clean int }

// private is the private memory of a process: smaps_rollup of proc(5).
func private(pid int) (u usage, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u, fmt.Errorf("read the memory of haproxy: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "Private_Clean:" && f[0] != "Private_Dirty:" {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			return u, fmt.Errorf("read the memory of haproxy: %w", err)
		}
		if f[0] == "Private_Clean:" {
			u.clean += n
		} else {
			u.dirty += n
		}
	}
	return u, nil
}
