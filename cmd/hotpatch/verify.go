package main

import (
	"context"
	"fmt"
	"io"
	"slices"

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
	targets, gone, err := a.patched(ctx, pids)
	if err != nil {
		return err
	}
	e, err := a.engine()
	if err != nil {
		return err
	}
	out := gone
	damaged, refused := false, false
	for i := range targets {
		res := e.Verify(targets[i].PID)
		state := stateName(res.State)
		r := resultReport(res, &targets[i], nil, state)
		switch res.State {
		case engine.Tampered:
			damaged = true
		case engine.Refused, engine.Blocked:
			refused = true // nothing was verified
		case engine.Already:
			r.State, r.Verified = "nothing", false
		}
		out = append(out, r)
	}
	if a.json {
		err = a.print(w, "verify", report{Processes: out})
	} else if len(out) == 0 {
		fmt.Fprintln(w, "no process is patched")
	} else {
		printResults(w, out)
	}
	if err == nil && damaged {
		return exitDamaged
	}
	if err == nil && slices.ContainsFunc(out, func(r processReport) bool { return r.State == "failed" }) {
		return exitFailed
	}
	if err == nil && refused {
		return exitRefused
	}
	return err
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
