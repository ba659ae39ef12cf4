package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"hotpatch/internal/engine"
	"hotpatch/internal/host"
	"hotpatch/internal/module"
	"hotpatch/internal/process"
)

func newStatus(a *app) *cobra.Command {
	var pids []int
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the processes that execute outdated code, or are patched",
		Long: `Show every process that executes a program or library whose file has been
replaced by another build since, or that is patched: outdated, patched, draining
when a thread may be inside replaced code yet (a patch that went in at the level
entry lets it finish), or blocked when threads were in the way of the last
attempt; gone when nothing usable is where the file was, unknown when that could
not be found out.

The exit status is 0 when nothing is outdated, and 2 when something is outdated,
blocked or draining, or when a patch has no effect on objects that existed
before it.`,
		Example: "  hotpatch status\n  hotpatch status --pid 812 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.status(cmd.Context(), cmd.OutOrStdout(), pids)
		},
	}
	cmd.Flags().IntSliceVar(&pids, "pid", nil, "only these processes")
	return cmd
}

func (a *app) status(ctx context.Context, w io.Writer, pids []int) error {
	p := newProgress(a)
	p.say("reading processes")
	procs, rest, err := scan(ctx, host.Options{PIDs: pids, Packages: true})
	if err != nil {
		return err
	}
	e, err := a.engine()
	if err != nil {
		return err
	}
	r := report{Processes: append([]processReport{}, rest...)}
	failed := slices.ContainsFunc(rest, func(r processReport) bool { return r.State == "failed" })
	outdated := false
	for _, pr := range a.statuses(e, procs) {
		failed = failed || pr.State == "failed"
		outdated = outdated || pr.State == "outdated" || pr.State == "blocked" || slices.ContainsFunc(pr.Modules, unfixed)
		r.Processes = append(r.Processes, pr)
	}
	p.done()
	if a.json {
		err = a.print(w, "status", r)
	} else {
		printStatus(w, r.Processes)
	}
	switch {
	case err != nil:
		return err
	case outdated:
		return exitOutdated
	case failed:
		return exitFailed
	}
	return nil
}

// unfixed reports whether a module is patched, but objects in it are as
// vulnerable as before, or a thread may be in old code yet.
func unfixed(m moduleReport) bool {
	return m.State == "draining" || m.State == "patched" && len(m.Remarks) > 0
}

// statuses describes the processes that are outdated or patched, each
// processor some of them.
func (a *app) statuses(e *engine.Engine, procs []host.Proc) (out []processReport) {
	all := make([]*processReport, len(procs))
	n := min(runtime.GOMAXPROCS(0), len(procs))
	patched := e.Store().Files()
	var g sync.WaitGroup
	for w := range n {
		g.Go(func() {
			e := e.Beside()
			for i := w; i < len(procs); i += n {
				if pr, shown := a.processStatus(e, &procs[i], patched); shown {
					all[i] = &pr
				}
			}
		})
	}
	g.Wait()
	for _, pr := range all {
		if pr != nil {
			out = append(out, *pr)
		}
	}
	return out
}

// states are those of a module; a process has the first that one of its has.
var states = []string{"outdated", "draining", "patched", "gone", "unknown", "failed", "current"}

// processStatus describes a process that is not current, or is patched. Of the
// others only those are looked into that have a file mapped of which somewhere a
// module was patched.
func (a *app) processStatus(e *engine.Engine, proc *host.Proc, patched map[engine.FileID]bool) (processReport, bool) {
	pr := processReport{PID: proc.PID, Start: proc.Start, Program: program(proc), State: "current"}
	old, heir := false, false
	for i := range proc.Modules {
		m := &proc.Modules[i]
		old = old || m.State != host.Current
		heir = heir || patched[engine.FileID{Dev: m.Dev, Ino: m.Ino}]
	}
	id := process.ID{Pid: proc.PID, Start: proc.Start}
	blockers := e.Store().Blockers(id)
	if !old && len(blockers) == 0 && !e.Store().Has(id) && !(heir && e.HasHeader(proc.PID)) {
		return pr, false
	}
	rec, err := e.Status(proc.PID)
	if err != nil {
		pr.Reasons = append(pr.Reasons, reason{Code: "unknown", Detail: err.Error()})
	}
	worst := len(states) - 1
	if rec != nil {
		pr.Sharing = others(proc.PID, rec.Sharing)
		pr.Reasons = append(pr.Reasons, engineReasons(proc.PID, rec.Notes)...)
	} else if err != nil && !errors.Is(err, process.ErrExited) {
		worst = slices.Index(states, "failed")
	}
	for i := range proc.Modules {
		m := &proc.Modules[i]
		mr, ok := moduleStatus(e, m, rec)
		if !ok {
			continue
		}
		worst = min(worst, slices.Index(states, mr.State))
		pr.Modules = append(pr.Modules, mr)
	}
	if rec != nil {
		for _, u := range rec.Units { // of a module that has another name by now
			if !slices.ContainsFunc(pr.Modules, func(mr moduleReport) bool { return mr.Patch == string(u.Patch) }) {
				mr, _ := moduleStatus(e, &host.Module{Path: u.Path, State: host.Unknown}, rec)
				worst = min(worst, slices.Index(states, mr.State))
				pr.Modules = append(pr.Modules, mr)
			}
		}
	}
	pr.State = states[worst]
	if len(blockers) > 0 {
		pr.State, pr.Reasons = "blocked", append(engineReasons(proc.PID, blockers), pr.Reasons...)
	}
	return pr, len(pr.Modules) > 0 || pr.State == "blocked" || pr.State == "failed" || rec != nil && len(rec.Notes) > 0
}

// moduleStatus describes a module that is not current, or is patched.
func moduleStatus(e *engine.Engine, m *host.Module, rec *engine.Record) (mr moduleReport, shown bool) {
	mr = moduleReport{Module: m.Path, Reason: m.Reason}
	defer func() {
		if rec != nil && rec.UnderWay {
			mr.Reason = strings.TrimPrefix(mr.Reason+"; a transaction is under way", "; ")
		}
	}()
	if m.State != host.Current {
		mr.Running = &build{m.Package.Name, m.RunningVersion, m.Running.BuildID, m.VersionReason}
		mr.Disk = &build{m.Package.Name, m.Package.Version, m.Fixed.BuildID, ""}
	}
	if u := unitFor(e, m, rec); u != nil {
		mr.Patch, mr.Bias, mr.OverlayBias = string(u.Patch), uint64(u.Bias), uint64(u.Overlay)
		mr.State, mr.Reason, mr.Retired, mr.Sealed = "patched", "", u.Retired, u.Sealed
		for _, id := range u.Replaced {
			mr.Replaced = append(mr.Replaced, string(id))
		}
		if u.Draining {
			mr.State, mr.Reason = "draining", "a thread that was inside an old function runs it to its end"
		}
		p, err := e.Store().Patch(u.Patch)
		if err == nil && len(p.Remarks) > 0 {
			mr.Remarks = remarks(p.Remarks)
			mr.Reason = mr.Remarks[0].String()
		}
		if err == nil && m.State == host.Outdated && p.Fixed != m.Fixed {
			mr.State, mr.Reason = "outdated", "patched, but another build is on disk now"
		}
		if err == nil && m.State == host.Current && mr.Reason == "" {
			mr.Running = &build{BuildID: p.Baseline.BuildID}
			mr.Disk, mr.Reason = mr.Running, "the baseline is on disk again: hotpatch rollback returns to it"
		}
		if u.Lacking {
			mr.State, mr.Reason = "outdated", "patched, but the program has loaded it once more"
		}
		return mr, true
	}
	mr.State = string(m.State)
	return mr, m.State != host.Current
}

// unitFor is the patch that is in the module, or nil.
func unitFor(e *engine.Engine, m *host.Module, rec *engine.Record) *engine.UnitRecord {
	if rec == nil {
		return nil
	}
	for i := range rec.Units {
		u := &rec.Units[i]
		if m.Running != (module.Identity{}) {
			if p, err := e.Store().Patch(u.Patch); err == nil && p.Baseline == m.Running {
				return u
			}
		} else if u.Path == m.Path {
			return u
		}
	}
	return nil
}

func printStatus(w io.Writer, ps []processReport) {
	if len(ps) == 0 {
		fmt.Fprintln(w, "no process executes outdated code")
		return
	}
	var rows [][]string
	for _, p := range ps {
		alone := true // what is said of the process is not said of a module
		for _, m := range p.Modules {
			run, disk := "-", "-"
			pkg := "-"
			if m.Running != nil {
				run, disk = shortBuild(m.Running), shortBuild(m.Disk)
				if m.Disk.Package != "" {
					pkg = m.Disk.Package
				}
			}
			why := []string{m.Reason}
			state := m.State
			switch {
			case p.State == "blocked" && state == "outdated":
				state, why, alone = "blocked", []string{p.Reasons[0].String()}, false
			case p.State != "blocked":
				for _, r := range p.Reasons {
					why = append(why, r.String())
				}
			}
			why = slices.DeleteFunc(why, func(s string) bool { return s == "" })
			rows = append(rows, []string{strconv.Itoa(p.PID), clean(cmp.Or(p.Program, "-")), clean(m.Module), clean(pkg), clean(run), clean(disk), state, clean(strings.Join(why, "; "))})
		}
		if len(p.Modules) == 0 || p.State == "blocked" && alone {
			why := ""
			if len(p.Reasons) > 0 {
				why = p.Reasons[0].String()
			}
			rows = append(rows, []string{strconv.Itoa(p.PID), clean(cmp.Or(p.Program, "-")), "-", "-", "-", "-", p.State, clean(why)})
		}
	}
	table(w, "PID PROGRAM MODULE PACKAGE RUNNING ON-DISK STATE REASON", rows)
}

// shortBuild is a version, or where none is known the start of the build-id.
func shortBuild(b *build) string {
	switch {
	case b.Version != "":
		return b.Version
	case b.BuildID != "":
		return "build-id " + b.BuildID[:min(12, len(b.BuildID))]
	}
	return "-"
}

// scan lists processes. Of those asked for by pid it reports what became of
// the ones that cannot be looked into; of all others it says on standard error
// how many they are.
func scan(ctx context.Context, opts host.Options) (readable []host.Proc, rest []processReport, err error) {
	for _, pid := range opts.PIDs {
		if pid <= 0 {
			return nil, nil, fmt.Errorf("--pid %d: it must be a process id", pid)
		}
		if err := process.Misnamed(pid); err != nil {
			return nil, nil, fmt.Errorf("--pid %d: %w", pid, err)
		}
	}
	procs, err := host.Scan(ctx, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("read processes: %w", err)
	}
	there := make(map[int]bool)
	var first error
	hidden := 0
	for _, p := range procs {
		there[p.PID] = true
		switch {
		case p.Err == nil:
			readable = append(readable, p)
		case len(opts.PIDs) > 0:
			r := reason{Code: "unreadable", Detail: p.Err.Error()}
			if need := missingRights(); need != "" {
				r.Detail += ": " + need
			}
			rest = append(rest, processReport{PID: p.PID, Start: p.Start, Program: program(&p), State: "failed", Reasons: []reason{r}})
		default:
			hidden++
			if first == nil {
				first = fmt.Errorf("process %d: %w", p.PID, p.Err)
			}
		}
	}
	for _, pid := range opts.PIDs {
		if !there[pid] {
			rest = append(rest, processReport{PID: pid, State: "exited"})
		}
	}
	if need := missingRights(); hidden > 0 && need != "" {
		return nil, nil, fmt.Errorf("%s could not be read (%w): %s", processes(hidden), first, need)
	}
	if hidden > 0 {
		fmt.Fprintf(os.Stderr, "hotpatch: %s could not be read (%s)\n", processes(hidden), clean(first.Error()))
	}
	return readable, rest, nil
}

func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}
