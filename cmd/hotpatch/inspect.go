package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"hotpatch/internal/check"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// patchReport describes one patch file.
type patchReport struct {
	ID        string           `json:"id"`
	File      string           `json:"file"`
	Module    string           `json:"module"`
	Tool      string           `json:"tool"`
	Baseline  module.Identity  `json:"baseline"`
	Fixed     module.Identity  `json:"fixed"`
	Verdict   string           `json:"verdict"`
	Functions []functionReport `json:"functions"`
	Omitted   []omission       `json:"omitted,omitempty"`
	Remarks   []remark         `json:"remarks,omitempty"`
	Fixups    map[string]int   `json:"fixups"` // by kind
	Imports   []patch.Import   `json:"imports,omitempty"`
	Entry     bool             `json:"entry_allowed"`
	EntryWhy  string           `json:"entry_why"`
	Escapes   bool             `json:"code_addresses_escape"`
	Sizes     sizes            `json:"bytes"`
	Proof     *proof           `json:"proof,omitempty"`
}

// proof is what a second look at the patch and its two builds found.
type proof struct {
	Functions  int      `json:"functions"`
	References int      `json:"references"`
	Compared   int      `json:"compared"` // pieces of code that stay, and are the same
	Faults     []string `json:"faults"`
	Unproved   []string `json:"unproved"`
}

type functionReport struct {
	Name    string         `json:"name"`
	Change  string         `json:"change"` // changed, added
	Why     string         `json:"why"`
	Steered bool           `json:"steered"`
	Old     module.Addr    `json:"old,omitempty"` // entry in the baseline's image
	Ranges  []module.Range `json:"ranges"`        // in the fixed build's image
}

// sizes are bytes: of included code, and of the overlay's pages by protection.
type sizes struct {
	Code     int `json:"code"`
	Text     int `json:"text_pages"`
	ReadOnly int `json:"read_only_pages"`
	Writable int `json:"writable_pages"`
}

func newInspect(a *app) *cobra.Command {
	var second bool
	cmd := &cobra.Command{
		Use:   "inspect FILE [--check OLD NEW]",
		Short: "Show what a patch file holds",
		Long: `Show what a patch file holds: the builds it leads from and to, the functions it
changes and why, what was left out and why, and how large it is. The file is an
ELF object: readelf and objdump -d open it too.

With --check the patch is proved by a second way, from the two ELF files that
it was made from: every reference of its code is followed to where the fixed
build's leads, by code that has nothing in common with what built it. It says
what is wrong (exit status 4), and what nothing speaks for or against. Files
with symbols let it prove more.`,
		Example: "  hotpatch inspect nginx.hotpatch\n  objdump -d nginx.hotpatch\n  hotpatch inspect nginx.hotpatch --check /var/tmp/old/nginx /usr/sbin/nginx",
		Args: func(cmd *cobra.Command, args []string) error {
			if second {
				return cobra.ExactArgs(3)(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := patch.Open(args[0])
			if err != nil {
				return err
			}
			r := inspect(p, args[0])
			if second {
				if r.Proof, err = prove(p, args[1], args[2]); err != nil {
					return err
				}
			}
			if a.json {
				err = a.print(cmd.OutOrStdout(), "inspect", report{Patch: r})
			} else {
				printPatch(cmd.OutOrStdout(), r)
			}
			if err == nil && r.Proof != nil && len(r.Proof.Faults) > 0 {
				return exitDamaged
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&second, "check", false, "prove the patch from the files OLD and NEW")
	return cmd
}

// prove checks a patch against the two files that it was made from.
func prove(p *patch.Patch, oldPath, newPath string) (*proof, error) {
	old, err := os.ReadFile(oldPath)
	if err != nil {
		return nil, err
	}
	fixed, err := os.ReadFile(newPath)
	if err != nil {
		return nil, err
	}
	c, err := check.Patch(p, old, fixed)
	if err != nil {
		return nil, err
	}
	out := &proof{Functions: c.Proved.Functions, References: c.Proved.References, Compared: c.Proved.Compared, Faults: []string{}, Unproved: []string{}}
	for _, f := range c.Faults {
		out.Faults = append(out.Faults, f.String())
	}
	for _, f := range c.Unproved {
		out.Unproved = append(out.Unproved, f.String())
	}
	return out, nil
}

func printProof(w io.Writer, p *proof) {
	fmt.Fprintf(w, "\nproof: %d references of %d pieces of code lead where they should, %d pieces that stay are the same\n", p.References, p.Functions, p.Compared)
	for _, f := range p.Faults {
		fmt.Fprintf(w, "  WRONG %s\n", clean(f))
	}
	for _, f := range p.Unproved {
		fmt.Fprintf(w, "  not proved: %s\n", clean(f))
	}
}

func inspect(p *patch.Patch, file string) *patchReport {
	r := &patchReport{
		ID: string(p.ID), File: file, Module: p.Module, Tool: p.Tool, Baseline: p.Baseline, Fixed: p.Fixed, Verdict: "patchable",
		Fixups: make(map[string]int), Imports: p.Imports, Entry: p.EntryAllowed, EntryWhy: p.EntryWhy, Escapes: p.Escapes,
	}
	for _, f := range p.Functions {
		fr := functionReport{Name: f.Name, Change: "changed", Why: f.Why, Steered: f.Steered, Old: f.Old, Ranges: f.Ranges}
		if f.Change == patch.Added {
			fr.Change = "added"
		}
		r.Functions = append(r.Functions, fr)
		for _, rg := range f.Ranges {
			r.Sizes.Code += int(rg.Len())
		}
	}
	r.Remarks = remarks(p.Remarks)
	for _, o := range p.Omissions {
		r.Omitted = append(r.Omitted, omission{o.Name, o.Reason, o.Detail})
	}
	for _, f := range p.Fixups {
		r.Fixups[f.Kind.String()]++
	}
	for _, s := range p.Pieces {
		switch s.Prot {
		case patch.ReadExec:
			r.Sizes.Text += len(s.Bytes)
		case patch.ReadWrite:
			r.Sizes.Writable += len(s.Bytes)
		default:
			r.Sizes.ReadOnly += len(s.Bytes)
		}
	}
	return r
}

func printPatch(w io.Writer, r *patchReport) {
	fmt.Fprintf(w, "%s: %s, %s\n", clean(r.File), clean(r.Module), r.Verdict)
	fmt.Fprintf(w, "  patch     %s\n  baseline  build-id %s\n  fixed     build-id %s\n  built by  hotpatch %s\n", r.ID, clean(r.Baseline.BuildID), clean(r.Fixed.BuildID), clean(r.Tool))
	fmt.Fprintf(w, "  code      %d bytes; pages: %d KiB code, %d KiB read-only, %d KiB writable\n", r.Sizes.Code, r.Sizes.Text>>10, r.Sizes.ReadOnly>>10, r.Sizes.Writable>>10)
	fmt.Fprintf(w, "  fixups   ")
	for k := patch.RelBaseline; k <= patch.NarrowOverlay; k++ {
		if n := r.Fixups[k.String()]; n > 0 {
			fmt.Fprintf(w, " %d %s", n, k)
		}
	}
	fmt.Fprintf(w, "\n  level     strict; entry: %v, %s\n\nfunctions\n", r.Entry, clean(r.EntryWhy))
	for _, f := range r.Functions {
		steered := ""
		if f.Steered {
			steered = fmt.Sprintf(", steered from %v", f.Old)
		}
		fmt.Fprintf(w, "  %s %s at %v%s: %s\n", f.Change, clean(f.Name), f.Ranges[0].Start, steered, clean(f.Why))
	}
	for _, i := range r.Imports {
		fmt.Fprintf(w, "  new import %s@%s\n", clean(i.Name), clean(i.Version))
	}
	if len(r.Remarks) > 0 {
		fmt.Fprintf(w, "\nremarks\n")
		printRemarks(w, r.Remarks)
	}
	if len(r.Omitted) > 0 {
		fmt.Fprintf(w, "\nleft out, since it cannot matter\n")
	}
	for _, o := range r.Omitted {
		fmt.Fprintf(w, "  %s: %s: %s\n", clean(o.Function), clean(o.Reason), clean(o.Detail))
	}
	if r.Proof != nil {
		printProof(w, r.Proof)
	}
}
