package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hotpatch/internal/engine"
	"hotpatch/internal/host"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
	"hotpatch/internal/plan"
)

// applyFlags are the flags of apply.
type applyFlags struct {
	pids     []int
	dryRun   bool
	level    string
	deadline time.Duration
	budget   time.Duration
	retire   bool
	seal     bool
}

func newApply(a *app) *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply [FILE...]",
		Short: "Put patches into running processes",
		Long: `Put patches into running processes.

Without FILE, for every process that executes outdated code the patch is made
from the build that it runs and the build on disk, and applied. With FILEs,
those patches go into every process that runs their baselines.

The modules of one update (one source package) are patched together in a
process, or not at all. A process that a patch is in already, or that exits
meanwhile, is no error. The exit status is 3 when a process could not be
patched; then it says why.`,
		Example: `  hotpatch apply
  hotpatch apply --dry-run
  hotpatch apply --pid 812
  hotpatch apply nginx.hotpatch --pid 812`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.apply(cmd.Context(), cmd.OutOrStdout(), args, f)
		},
	}
	cmd.Flags().IntSliceVar(&f.pids, "pid", nil, "only these processes")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would be done, and change nothing")
	cmd.Flags().StringVar(&f.level, "level", string(engine.Auto), "consistency: strict, entry, or auto (strict until the deadline, then entry where it is safe)")
	cmd.Flags().DurationVar(&f.deadline, "deadline", 10*time.Second, "how long to wait for threads that are inside changed functions")
	cmd.Flags().DurationVar(&f.budget, "budget", engine.DefaultBudget, "how long all threads may be held in one try; what takes longer is let go and tried again")
	cmd.Flags().BoolVar(&f.retire, "retire", false, "overwrite the replaced code with int3, where the level strict was reached and every stack could be unwound")
	cmd.Flags().BoolVar(&f.seal, "seal", false, "seal the new code with mseal (Linux 6.10): it then stays mapped until the process ends, also after a rollback")
	return cmd
}

// job is one transaction: an update in a process.
type job struct {
	proc    *host.Proc
	patches []*patch.Patch
	modules []moduleReport
}

func (a *app) apply(ctx context.Context, w io.Writer, paths []string, f applyFlags) error {
	if err := positive(f.deadline, f.budget); err != nil {
		return err
	}
	level := engine.Level(f.level)
	if !slices.Contains([]engine.Level{engine.Strict, engine.Entry, engine.Auto}, level) {
		return fmt.Errorf("--level \"%s\": it must be strict, entry or auto", f.level)
	}
	p := newProgress(a)
	defer p.done()
	p.say("reading processes")
	var jobs []job
	var done []processReport // settled without a transaction
	var err error
	if len(paths) > 0 {
		jobs, done, err = a.jobsOfFiles(ctx, paths, f.pids)
	} else {
		jobs, done, err = a.jobsOfHost(ctx, f.pids, p)
	}
	if err != nil {
		return err
	}
	for _, r := range done {
		p.settled(ctx, r)
	}
	out := done
	if f.dryRun {
		for _, j := range jobs {
			out = append(out, processReport{PID: j.proc.PID, Start: j.proc.Start, Program: program(j.proc), State: "patchable", Modules: j.modules})
		}
	} else {
		results, err := a.applyJobs(ctx, jobs, engine.Options{Level: level, Deadline: f.deadline, Budget: f.budget, Store: a.store, Retire: f.retire, Seal: f.seal}, p)
		if err != nil {
			return err
		}
		for i, res := range results {
			out = append(out, resultReport(res, jobs[i].proc, jobs[i].modules, stateName(res.State)))
		}
	}
	p.done()
	slices.SortStableFunc(out, func(x, y processReport) int { return x.PID - y.PID })
	return a.finish(w, "apply", out)
}

// applyJobs has a worker carry the jobs out.
func (a *app) applyJobs(ctx context.Context, jobs []job, opts engine.Options, p *progress) ([]engine.Result, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	store, err := engine.OpenStore(a.store)
	if err != nil {
		return nil, err
	}
	if err := store.Sweep(); err != nil {
		return nil, err
	}
	req := engine.Request{Op: engine.OpApply, Options: opts}
	var files []engine.FileID
	for _, j := range jobs {
		t := engine.Target{Pid: j.proc.PID, Start: j.proc.Start}
		for _, pt := range j.patches {
			if err := store.SavePatch(pt); err != nil {
				return nil, err
			}
			t.Patches = append(t.Patches, store.PatchFile(pt.ID))
			for i := range j.proc.Modules {
				if m := &j.proc.Modules[i]; m.Running == pt.Baseline {
					files = append(files, engine.FileID{Dev: m.Dev, Ino: m.Ino})
				}
			}
		}
		req.Pids = append(req.Pids, t)
	}
	if err := store.AddFiles(files); err != nil {
		return nil, err
	}
	return work(ctx, req, p)
}

// finish prints what became of the processes and sets the exit status.
func (a *app) finish(w io.Writer, command string, out []processReport) error {
	var err error
	if a.json {
		err = a.print(w, command, report{Processes: append([]processReport{}, out...)})
	} else {
		printResults(w, out)
	}
	is := func(states ...string) bool {
		return slices.ContainsFunc(out, func(r processReport) bool { return slices.Contains(states, r.State) })
	}
	switch {
	case err != nil:
		return err
	case is("damaged"):
		return exitDamaged
	case is("failed", "interrupted"):
		return exitFailed
	case is("refused", "blocked"):
		return exitRefused
	}
	return nil
}

// jobsOfHost plans for every process that executes outdated code.
func (a *app) jobsOfHost(ctx context.Context, pids []int, p *progress) (jobs []job, done []processReport, err error) {
	procs, done, err := scan(ctx, host.Options{PIDs: pids, Packages: true})
	if err != nil {
		return nil, nil, err
	}
	planner := plan.Planner{Tool: toolVersion()}
	needs, err := planner.Plan(ctx, procs, func(m string) { p.say("comparing the builds of %s", filepath.Base(m)) })
	if err != nil {
		return nil, nil, err
	}
	seen := make(map[int]bool)
	for _, n := range needs {
		seen[n.Proc.PID] = true
		for _, u := range n.Updates {
			pr := processReport{PID: n.Proc.PID, Start: n.Proc.Start, Program: program(n.Proc), State: "refused"}
			for _, b := range u.Builds {
				pr.Modules = append(pr.Modules, builtReport(b))
				pr.Reasons = append(pr.Reasons, diffReasons(b.Reasons)...)
			}
			ps, ok := u.Patches()
			switch {
			case u.Err != nil:
				pr.State, pr.Reasons = openState(u.Err)
			case ok && len(ps) == 0:
				pr.State = "nothing"
			case ok:
				jobs = append(jobs, job{n.Proc, ps, pr.Modules})
				continue
			}
			done = append(done, pr)
		}
	}
	for i := range procs {
		if p := &procs[i]; len(pids) > 0 && !seen[p.PID] {
			done = append(done, processReport{PID: p.PID, Start: p.Start, Program: program(p), State: "nothing", Reasons: noneFixed(p)})
		}
	}
	return jobs, done, nil
}

// noneFixed says of which modules of a process there is no fixed build, or none
// that could be looked at.
func noneFixed(p *host.Proc) (out []reason) {
	for i := range p.Modules {
		switch m := &p.Modules[i]; m.State {
		case host.Gone:
			out = append(out, reason{Code: "no-file", Name: m.Path, Detail: m.Reason})
		case host.Unknown:
			out = append(out, reason{Code: "unreadable-file", Name: m.Path, Detail: m.Reason})
		}
	}
	return out
}

// openState says what it means that a file of a process could not be had.
func openState(err error) (string, []reason) {
	var changed *host.ChangedError
	var untrusted *host.UntrustedError
	switch {
	case errors.As(err, &changed):
		return "exited", []reason{{Code: "changed-meanwhile", Detail: err.Error()}}
	case errors.As(err, &untrusted):
		return "refused", []reason{{Code: "untrusted-file", Name: untrusted.Path, Detail: err.Error()}}
	}
	return "failed", []reason{{Code: "unreadable-file", Detail: err.Error()}}
}

// jobsOfFiles gives every process the patches whose baselines it runs.
func (a *app) jobsOfFiles(ctx context.Context, paths []string, pids []int) (jobs []job, done []processReport, err error) {
	byBase := make(map[module.Identity]*patch.Patch)
	for _, path := range paths {
		p, err := patch.Open(path)
		if err != nil {
			return nil, nil, err
		}
		if other := byBase[p.Baseline]; other != nil && other.ID != p.ID {
			return nil, nil, fmt.Errorf("%s: another file given patches the same build of %s", path, p.Module)
		}
		byBase[p.Baseline] = p
	}
	procs, done, err := scan(ctx, host.Options{PIDs: pids, Identities: true})
	if err != nil {
		return nil, nil, err
	}
	for i := range procs {
		j := job{proc: &procs[i]}
		for k := range procs[i].Modules {
			if p := byBase[procs[i].Modules[k].Running]; p != nil && !slices.Contains(j.patches, p) {
				j.patches = append(j.patches, p)
				j.modules = append(j.modules, patchModule(p))
			}
		}
		switch {
		case len(j.patches) > 0:
			jobs = append(jobs, j)
		case len(pids) > 0:
			done = append(done, processReport{
				PID: procs[i].PID, Start: procs[i].Start, Program: program(&procs[i]), State: "refused",
				Reasons: []reason{{Code: string(engine.NoModule), Detail: "it runs the baseline of none of the patches given"}},
			})
		}
	}
	return jobs, done, nil
}

func patchModule(p *patch.Patch) moduleReport {
	f := &functions{Steered: len(p.Steers)}
	for _, fn := range p.Functions {
		if fn.Change == patch.Added {
			f.Added++
		} else {
			f.Changed++
		}
	}
	return moduleReport{Module: p.Module, Verdict: "patchable", Patch: string(p.ID), Functions: f, Remarks: remarks(p.Remarks)}
}

// stateName is what the reports call the outcome of an apply.
func stateName(s engine.State) string {
	if s == engine.Tampered {
		return "damaged"
	}
	return string(s)
}

// resultReport describes the outcome of a transaction.
func resultReport(res engine.Result, proc *host.Proc, mods []moduleReport, state string) processReport {
	r := processReport{
		PID: res.Pid, Start: res.Start, State: state, Modules: mods, Level: string(res.Level), PauseUS: res.Pause, CheckUS: res.Check, Left: res.Left,
		BorrowUS: res.Prepare, Stops: res.Tries, Verified: res.Verified, Unwind: res.Unwind, Reasons: engineReasons(res.Pid, res.Reasons),
		Retired: res.Retired, Sealed: res.Sealed, Sharing: others(res.Pid, res.Sharing),
	}
	for _, id := range res.Restored {
		r.Restored = append(r.Restored, string(id))
	}
	if proc != nil {
		r.Program, r.Start = program(proc), proc.Start
	}
	return r
}

func printResults(w io.Writer, ps []processReport) {
	if len(ps) == 0 {
		fmt.Fprintln(w, "nothing to do: no process executes outdated code")
	}
	const most = 50 // processes that are listed
	if len(ps) > most {
		printSummary(w, ps)
		return
	}
	for _, p := range ps {
		fmt.Fprintf(w, "%s: %s", strings.TrimSpace(fmt.Sprint(p.PID, " ", clean(p.Program))), p.State)
		var parts []string
		for _, m := range p.Modules {
			if m.Functions != nil && m.Verdict == "patchable" {
				parts = append(parts, fmt.Sprintf("%s %d functions", clean(m.Module), m.Functions.Changed+m.Functions.Added))
			}
		}
		if p.Level != "" {
			parts = append(parts, p.Level)
		}
		if p.PauseUS > 0 {
			parts = append(parts, fmt.Sprintf("paused %d µs", p.PauseUS))
		}
		if p.Left > 0 {
			parts = append(parts, fmt.Sprintf("%d KiB of address space stay mapped", p.Left/1024))
		}
		for _, id := range p.Restored {
			parts = append(parts, "patch "+id[:min(12, len(id))]+" is back")
		}
		if p.Retired {
			parts = append(parts, "old code retired")
		}
		if p.Sealed {
			parts = append(parts, "sealed until the process ends")
		}
		if p.Verified && p.State != "verified" {
			parts = append(parts, "verified")
		}
		if len(p.Sharing) > 0 {
			parts = append(parts, "one memory with "+strings.Trim(fmt.Sprint(p.Sharing), "[]"))
		}
		if len(parts) > 0 {
			fmt.Fprintf(w, " (%s)", strings.Join(parts, ", "))
		}
		fmt.Fprintln(w)
		printReasons(w, p.Reasons)
		for _, m := range p.Modules {
			printRemarks(w, m.Remarks)
		}
	}
}
