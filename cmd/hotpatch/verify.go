package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"hotpatch/internal/engine"
	"hotpatch/internal/host"
)

func newVerify(a *app) *cobra.Command {
	var pids []int
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare patched processes with their patches and files",
		Long: `Read the code of patched modules, the changed entries and the overlays back from
every patched process and compare them with the patch and the files. Any other
byte is named, and the exit status is then 4.`,
		Example: "  hotpatch verify\n  hotpatch verify --pid 812",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.verify(cmd.Context(), cmd.OutOrStdout(), pids)
		},
	}
	cmd.Flags().IntSliceVar(&pids, "pid", nil, "only these processes")
	return cmd
}

func (a *app) verify(ctx context.Context, w io.Writer, pids []int) error {
	p := newProgress(a)
	defer p.done()
	p.say("reading processes")
	targets, out, err := a.patched(ctx, pids)
	if err != nil {
		return err
	}
	req := engine.Request{Op: engine.OpVerify, Options: engine.Options{Store: a.store}}
	for i := range targets {
		req.Pids = append(req.Pids, engine.Target{Pid: targets[i].PID, Start: targets[i].Start})
	}
	var results []engine.Result
	if len(req.Pids) > 0 {
		if results, err = work(ctx, req, p); err != nil {
			return err
		}
	}
	p.done()
	for i, res := range results {
		r := resultReport(res, &targets[i], nil, stateName(res.State))
		if res.State == engine.Already {
			r.State, r.Verified = "nothing", false
		}
		out = append(out, r)
	}
	if len(out) == 0 && !a.json {
		fmt.Fprintln(w, "no process is patched")
		return nil
	}
	return a.finish(w, "verify", out)
}

// patched are the processes with a patch among pids, or among all, and a
// report for each other of pids.
func (a *app) patched(ctx context.Context, pids []int) (targets []host.Proc, rest []processReport, err error) {
	procs, rest, err := scan(ctx, host.Options{PIDs: pids})
	if err != nil {
		return nil, nil, err
	}
	e, err := a.engine()
	if err != nil {
		return nil, nil, err
	}
	for i := range procs {
		if len(pids) > 0 {
			targets = append(targets, procs[i])
			continue
		}
		if rec, err := e.Status(procs[i].PID); err == nil && rec != nil && len(rec.Units) > 0 {
			targets = append(targets, procs[i])
		}
	}
	return targets, rest, nil
}
