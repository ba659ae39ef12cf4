package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hotpatch/test/table"
	"hotpatch/test/tool"
)

//go:embed target/many.c
var manySource []byte

// many patches many small processes at once, verifies them and rolls them back.
func (b *bench) many(ctx context.Context) error {
	program, patch, err := b.compileMany(ctx)
	if err != nil {
		return err
	}
	pids, stop, err := startMany(program, b.count)
	if err != nil {
		return err
	}
	defer stop()
	// The fixed build takes the place of the program's file, as an update does.
	if err := os.Rename(program+".fixed", program); err != nil {
		return fmt.Errorf("update the program: %w", err)
	}
	var rows [][]string
	for _, c := range []struct {
		want string
		args []string
	}{
		{"outdated", []string{"status"}},
		{"patched", []string{"apply", patch, "--level", "strict", "--deadline", "1m"}},
		{"verified", []string{"verify"}},
		{"patched", []string{"status"}},
		{"rolled-back", []string{"rollback"}},
	} {
		row, err := b.timed(ctx, pids, c.want, c.args)
		if err != nil {
			return fmt.Errorf("%s: %w", c.args[0], err)
		}
		rows = append(rows, row)
	}
	fmt.Printf("\nMany processes: %d, level strict; the load average after it was %s\n\n", b.count, load())
	return table.Write(os.Stdout, []string{"", "processes", "s", "processor time, s", "most memory of command and workers, MiB", "longest pause, µs"}, rows)
}

// load is the load average of the last minute.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.Fields(string(b) + " ?")[0]
}

func (b *bench) compileMany(ctx context.Context) (program, patch string, err error) {
	cc, err := exec.LookPath("gcc")
	if err != nil {
		return "", "", errors.New("a C compiler is missing: apt install gcc libc6-dev")
	}
	c := filepath.Join(b.dir, "many.c")
	if err := os.WriteFile(c, manySource, 0o644); err != nil {
		return "", "", fmt.Errorf("write target/many.c: %w", err)
	}
	program = filepath.Join(b.dir, "many")
	for out, extra := range map[string]string{program: "-DBASELINE", program + ".fixed": "-DFIXED"} {
		said, err := exec.CommandContext(ctx, cc, "-O2", "-g0", "-s", "-fPIE", "-pie", "-Wl,-z,relro,-z,now,--build-id", extra, "-o", out, c).CombinedOutput()
		if err != nil {
			return "", "", fmt.Errorf("compile target/many.c: %w\n%s", err, said)
		}
	}
	patch = filepath.Join(b.dir, "many.hotpatch")
	_, err = b.tool.BuildPatch(ctx, program, program+".fixed", patch)
	return program, patch, err
}

// startMany starts n processes, and waits until the last has come to its sleep.
func startMany(program string, n int) (pids []int, stop func(), err error) {
	var started []*os.Process
	stop = func() {
		for _, p := range started {
			_ = p.Kill()
		}
		for _, p := range started {
			_, _ = p.Wait()
		}
	}
	for range n {
		p, err := os.StartProcess(program, []string{program}, &os.ProcAttr{Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("start the targets: %w", err)
		}
		started, pids = append(started, p), append(pids, p.Pid)
	}
	for _, pid := range pids {
		for try := 0; ; try++ {
			// proc_pid_wchan(5) is not for everybody; the call is: 7 is poll.
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
			if err == nil && strings.HasPrefix(string(b), "7 ") {
				break
			}
			if try == 1000 {
				stop()
				return nil, nil, fmt.Errorf("start the targets: process %d does not come to its sleep: %s", pid, b)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return pids, stop, nil
}

// timed runs one command for all processes.
func (b *bench) timed(ctx context.Context, pids []int, want string, args []string) ([]string, error) {
	list := make([]string, len(pids))
	for i, pid := range pids {
		list[i] = strconv.Itoa(pid)
	}
	args = append(args, "--json", "--pid", strings.Join(list, ","))
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, b.tool.Path, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start hotpatch: %w", err)
	}
	ended := make(chan struct{})
	most := make(chan int)
	go func() { most <- mostMemory(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	took := time.Since(began)
	close(ended)
	memory := <-most
	var r tool.Report
	if jerr := json.Unmarshal(out.Bytes(), &r); jerr != nil {
		return nil, fmt.Errorf("%w: %w: %s", jerr, err, said.Bytes())
	}
	n, pause := 0, 0.0
	for _, p := range r.Processes {
		if p.State == want {
			n++
		} else {
			err = fmt.Errorf("process %d is %s: %s", p.PID, p.State, tool.Explain(p.Reasons))
		}
		pause = max(pause, p.PauseUS)
	}
	if n != len(pids) {
		return nil, fmt.Errorf("%d of %d processes are %s: %w", n, len(pids), want, err)
	}
	usage := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	longest := "-"
	if pause > 0 {
		longest = fmt.Sprintf("%.0f", pause)
	}
	return []string{
		args[0], fmt.Sprintf("%d %s", n, want), fmt.Sprintf("%.2f", took.Seconds()), fmt.Sprintf("%.2f", usage.Seconds()),
		fmt.Sprintf("%.0f", float64(memory)/1024), longest,
	}, nil
}

// mostMemory is the most that a process and its children had resident at once,
// KiB, until it ended.
func mostMemory(pid int, ended <-chan struct{}) (most int) {
	for {
		sum := resident(pid)
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, t := range tasks { // each thread has its own list: proc_pid_task(5)
			if t.Name() != strconv.Itoa(pid) {
				more, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
				children = append(append(children, ' '), more...)
			}
		}
		for _, c := range strings.Fields(string(children)) {
			if child, err := strconv.Atoi(c); err == nil {
				sum += resident(child)
			}
		}
		most = max(most, sum)
		select {
		case <-ended:
			return most
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func resident(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}
