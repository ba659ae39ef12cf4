// Package tool runs the hotpatch command and reads what it prints with --json.
// It is for programs that try the command from outside, as its users do: the
// demonstration, the Debian pairs and the benchmarks. It knows the documented
// output and nothing of the packages behind it.
package tool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The exit codes of hotpatch.
const (
	ExitOK       = 0
	ExitError    = 1
	ExitOutdated = 2 // status: something runs outdated code
	ExitRefused  = 3 // something was refused or blocked
	ExitDamaged  = 4 // verify: a byte is not what it should be
)

// Tool is an executable file of the hotpatch command.
type Tool struct {
	Path string
}

// Build compiles cmd/hotpatch of the module that holds the working directory
// and puts the executable into dir.
func Build(ctx context.Context, dir string) (Tool, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return Tool{}, errors.New("go is missing: install Go 1.26 or later (https://go.dev/dl) and put it on PATH")
	}
	root, err := Root(ctx)
	if err != nil {
		return Tool{}, err
	}
	path := filepath.Join(dir, "hotpatch")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/hotpatch")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Tool{}, fmt.Errorf("build hotpatch: %w\n%s", err, out)
	}
	return Tool{Path: path}, nil
}

// Root is the folder of the Go module that holds the working directory.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if mod == "" || mod == os.DevNull {
		return "", errors.New("find the module: run this inside the checkout of hotpatch")
	}
	return filepath.Dir(mod), nil
}

// Apply runs `hotpatch apply` for some processes, with the given patch files
// or, without any, from the builds that the host has. The results are in the
// order of pids.
func (t Tool) Apply(ctx context.Context, pids []int, files ...string) ([]Process, error) {
	return t.each(ctx, "apply", pids, files...)
}

// Rollback runs `hotpatch rollback` for some processes.
func (t Tool) Rollback(ctx context.Context, pids []int) ([]Process, error) {
	return t.each(ctx, "rollback", pids)
}

// Verify runs `hotpatch verify` for some processes.
func (t Tool) Verify(ctx context.Context, pids []int) ([]Process, error) {
	return t.each(ctx, "verify", pids)
}

// Status runs `hotpatch status` for one process. An outdated process is no
// error.
func (t Tool) Status(ctx context.Context, pid int) (Report, error) {
	var r Report
	_, err := t.Run(ctx, &r, "status", "--json", "--pid", strconv.Itoa(pid))
	return r, err
}

// BuildPatch runs `hotpatch build` for two ELF files or two packages. A
// refusal is no error: it is in the report.
func (t Tool) BuildPatch(ctx context.Context, baseline, fixed, out string) (Report, error) {
	var r Report
	_, err := t.Run(ctx, &r, "build", "--json", "-o", out, baseline, fixed)
	return r, err
}

// Inspect runs `hotpatch inspect` for a patch file.
func (t Tool) Inspect(ctx context.Context, file string) (Patch, error) {
	var r Report
	if _, err := t.Run(ctx, &r, "inspect", "--json", file); err != nil {
		return Patch{}, err
	}
	if r.Patch == nil {
		return Patch{}, fmt.Errorf("hotpatch inspect says nothing of %s", file)
	}
	return *r.Patch, nil
}

// Run starts hotpatch with the given arguments and decodes the object that it
// prints into into. It returns the exit code; ExitError, an unknown code and
// output that is no JSON object are errors, with what the command wrote on
// standard error.
func (t Tool) Run(ctx context.Context, into any, args ...string) (int, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, t.Path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return ExitError, fmt.Errorf("run hotpatch %s: %w", args[0], err)
	}
	code := cmd.ProcessState.ExitCode()
	said := strings.TrimSpace(errs.String())
	if jerr := json.Unmarshal(out.Bytes(), into); jerr != nil {
		return code, fmt.Errorf("hotpatch %s: exit code %d, no JSON (%w): %s", strings.Join(args, " "), code, jerr, said)
	}
	if code < ExitOK || code == ExitError || code > ExitDamaged {
		return code, fmt.Errorf("hotpatch %s: exit code %d: %s", strings.Join(args, " "), code, said)
	}
	return code, nil
}

// each runs a command that reports on processes. When it failed, the error
// carries the reasons that it reported, and what it reported comes as well.
func (t Tool) each(ctx context.Context, command string, pids []int, files ...string) ([]Process, error) {
	args := []string{command, "--json"}
	for _, pid := range pids {
		args = append(args, "--pid", strconv.Itoa(pid))
	}
	var r Report
	_, err := t.Run(ctx, &r, append(args, files...)...)
	var found []Process
	for _, pid := range pids {
		i := slices.IndexFunc(r.Processes, func(p Process) bool { return p.PID == pid })
		switch {
		case i >= 0:
			found = append(found, r.Processes[i])
			if err != nil && len(r.Processes[i].Reasons) > 0 {
				err = fmt.Errorf("%w: process %d: %s: %s", err, pid, r.Processes[i].State, Explain(r.Processes[i].Reasons))
			}
		case err == nil:
			err = fmt.Errorf("hotpatch %s says nothing of process %d", command, pid)
		}
	}
	return found, err
}
