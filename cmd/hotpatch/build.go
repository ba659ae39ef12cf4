package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"hotpatch/internal/diff"
	"hotpatch/internal/patch"
	"hotpatch/internal/plan"
)

func newBuild(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "build OLD NEW",
		Short: "Make patch files from two builds",
		Long: `Compare two builds of the same module and make the patch that takes a process
from OLD to NEW. OLD and NEW are two ELF files, or two .deb packages, of which
every module that both have is compared.

For each module it says whether it is patchable, has nothing to patch, or is
refused and why. The exit status is 3 when a module was refused.`,
		Example: `  hotpatch build /var/tmp/old/nginx /usr/sbin/nginx -o nginx.hotpatch
  hotpatch build libssl3_3.0.15_amd64.deb libssl3_3.0.16_amd64.deb -o patches/`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.build(cmd.OutOrStdout(), args[0], args[1], out)
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "patch file, or a folder for patches named MODULE"+patch.Extension+" (default: this folder)")
	return cmd
}

func (a *app) build(w io.Writer, oldPath, newPath, out string) error {
	var r report
	refused := false
	p := newProgress(a)
	p.say("comparing %s", filepath.Base(newPath))
	start := time.Now()
	written := make(map[string]bool)
	err := plan.Files(oldPath, newPath, toolVersion(), func(b *plan.Build) error {
		m := builtReport(b)
		if b.Patch != nil {
			name, err := outputName(out, b.Module)
			if err != nil {
				return err
			}
			if written[name] {
				return fmt.Errorf("%s would hold two patches: give a folder with -o", name)
			}
			data, err := b.Patch.Encode()
			if err != nil {
				return err
			}
			if err := os.WriteFile(name, data, 0o644); err != nil {
				return err
			}
			written[name], m.File = true, name
		}
		m.Seconds = time.Since(start).Seconds()
		start = time.Now()
		refused = refused || b.Verdict == diff.Refused
		r.Modules = append(r.Modules, m)
		p.say("%d modules compared", len(r.Modules))
		return nil
	})
	p.done()
	if err != nil {
		return err
	}
	if a.json {
		err = a.print(w, "build", r)
	} else {
		printModules(w, r.Modules)
	}
	if err == nil && refused {
		return exitRefused
	}
	return err
}

// outputName is the file for a module's patch: out itself, or in the folder out.
func outputName(out, mod string) (string, error) {
	name := mod + patch.Extension
	if out == "" {
		return name, nil
	}
	st, err := os.Stat(out)
	switch {
	case err == nil && st.IsDir():
		return filepath.Join(out, name), nil
	case err != nil && out[len(out)-1] == '/':
		if err := os.Mkdir(out, 0o755); err != nil {
			return "", err
		}
		return filepath.Join(out, name), nil
	}
	return out, nil
}

func printModules(w io.Writer, ms []moduleReport) {
	for _, m := range ms {
		switch diff.Verdict(m.Verdict) {
		case diff.Unchanged:
			fmt.Fprintf(w, "%s: nothing to patch: no code that runs differs\n", clean(m.Module))
		case diff.Refused:
			fmt.Fprintf(w, "%s: refused\n", clean(m.Module))
			printReasons(w, m.Reasons)
		default:
			fmt.Fprintf(w, "%s: patchable: %d functions changed, %d added, %d steered (%.2f s)\n  %s\n",
				clean(m.Module), m.Functions.Changed, m.Functions.Added, m.Functions.Steered, m.Seconds, clean(m.File))
		}
		printRemarks(w, m.Remarks)
		if n := len(m.Omitted); n > 0 {
			fmt.Fprintf(w, "  %d differences cannot matter and were left out: see hotpatch inspect, or --json\n", n)
		}
	}
}

// printReasons prints the first reasons; the rest are in the JSON.
func printReasons(w io.Writer, rs []reason) {
	const most = 10
	for i, r := range rs {
		if i == most {
			fmt.Fprintf(w, "  and %d more: see --json\n", len(rs)-most)
			return
		}
		fmt.Fprintf(w, "  %s\n", clean(r.String()))
		for _, s := range r.Stack {
			fmt.Fprintf(w, "      %s\n", clean(s))
		}
	}
}
