package main

import (
	"io"
	"slices"

	"github.com/spf13/cobra"

	"hotpatch/internal/doctor"
)

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say whether processes of this host can be patched, and what is in the way",
		Long: `Try on a process of its own what is done to those that are patched, look at the
rights, the kernel and the security modules, and say what works, what does not,
why, and how to change it.

The exit status is 0 when all that is needed works, else 1. What is missing and
can be done without does not count.`,
		Example: "  hotpatch doctor\n  hotpatch doctor --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.OutOrStdout()) },
	}
}

func (a *app) doctor(w io.Writer) error {
	checks := doctor.Look(a.store)
	if a.json {
		if err := a.print(w, "doctor", report{Checks: checks}); err != nil {
			return err
		}
	} else {
		var rows [][]string
		for _, c := range checks {
			what := clean(c.Detail)
			if c.Advice != "" {
				what += " -> " + clean(c.Advice)
			}
			rows = append(rows, []string{string(c.State), c.Name, what})
		}
		table(w, "STATE CHECK WHAT", rows)
	}
	if slices.ContainsFunc(checks, func(c doctor.Check) bool { return c.State == doctor.Fails }) {
		return exitFailed
	}
	return nil
}
