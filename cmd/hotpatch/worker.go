package main

import (
	"os"

	"github.com/spf13/cobra"

	"hotpatch/internal/engine"
)

// newWorker is the process that traces: it outlives the command that started
// it and finishes or undoes what it began.
func newWorker() *cobra.Command {
	return &cobra.Command{
		Use:    "worker",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return engine.RunWorker(os.Stdin, os.Stdout)
		},
	}
}
