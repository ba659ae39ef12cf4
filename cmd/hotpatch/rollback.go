package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hotpatch/internal/engine"
	"hotpatch/internal/host"
	"hotpatch/internal/patch"
)

func newRollback(a *app) *cobra.Command {
	var pids []int
	var deadline, budget time.Duration
	var baseline bool
	cmd := &cobra.Command{
		Use:   "rollback [PATCH-ID]",
		Short: "Take patches out of running processes",
		Long: `Take patches out of running processes: the last one of each module, or the one
named by the first digits of its id. Where it replaced an earlier patch, that one
comes back; with --baseline all go, and the code of the program is then byte for
byte what it was before. Sessions and state live on.`,
		Example: "  hotpatch rollback --pid 812\n  hotpatch rollback --pid 812 --baseline\n  hotpatch rollback a6d26ce05467",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := ""
			if len(args) > 0 {
				const fewest = 6 // digits that name a patch
				if id = strings.ToLower(args[0]); len(id) < fewest {
					return fmt.Errorf("patch id \"%s\": give at least %d digits", id, fewest)
				}
			}
			op := engine.OpRevert
			if baseline {
				op = engine.OpRemove
			}
			return a.rollback(cmd.Context(), cmd.OutOrStdout(), op, pids, id, engine.Options{Deadline: deadline, Budget: budget, Store: a.store})
		},
	}
	cmd.Flags().IntSliceVar(&pids, "pid", nil, "only these processes")
	cmd.Flags().BoolVar(&baseline, "baseline", false, "take out all patches of a module, not only the last")
	cmd.Flags().DurationVar(&deadline, "deadline", 10*time.Second, "how long to wait for threads that are inside new code")
	cmd.Flags().DurationVar(&budget, "budget", engine.DefaultBudget, "how long all threads may be held in one try; what takes longer is let go and tried again")
	return cmd
}

func (a *app) rollback(ctx context.Context, w io.Writer, op engine.Op, pids []int, id string, o engine.Options) error {
	if err := positive(o.Deadline, o.Budget); err != nil {
		return err
	}
	p := newProgress(a)
	defer p.done()
	p.say("reading processes")
	targets, out, err := a.patched(ctx, pids)
	if err != nil {
		return err
	}
	e, err := a.engine()
	if err != nil {
		return err
	}
	req := engine.Request{Op: op, Options: o}
	known := id == ""
	for i := range targets {
		if id != "" {
			rec, err := e.Status(targets[i].PID)
			if err != nil || rec == nil {
				continue
			}
			here := false
			for _, u := range rec.Units {
				for _, have := range append(slices.Clone(u.Replaced), u.Patch) {
					if strings.HasPrefix(string(have), id) {
						here = true
						if !slices.Contains(req.IDs, have) {
							req.IDs = append(req.IDs, have)
						}
					}
				}
			}
			if !here {
				continue
			}
			known = true
		}
		req.Pids = append(req.Pids, engine.Target{Pid: targets[i].PID, Start: targets[i].Start})
	}
	if !known {
		return fmt.Errorf("patch %s is in none of the processes: see hotpatch status", patch.ID(id).Short())
	}
	var results []engine.Result
	if len(req.Pids) > 0 {
		if results, err = work(ctx, req, p); err != nil {
			return err
		}
	}
	p.done()
	for _, res := range results {
		state := stateName(res.State)
		switch res.State {
		case engine.Removed:
			state = "rolled-back"
		case engine.Already:
			state = "nothing"
		}
		i := slices.IndexFunc(targets, func(p host.Proc) bool { return p.PID == res.Pid })
		out = append(out, resultReport(res, &targets[i], nil, state))
	}
	if len(out) == 0 && !a.json {
		fmt.Fprintln(w, "no process is patched")
		return nil
	}
	return a.finish(w, "rollback", out)
}

// positive refuses times of a transaction that leave none.
func positive(deadline, budget time.Duration) error {
	switch {
	case deadline <= 0:
		return fmt.Errorf("--deadline %v: it must be longer than 0", deadline)
	case budget <= 0:
		return fmt.Errorf("--budget %v: it must be longer than 0", budget)
	}
	return nil
}
