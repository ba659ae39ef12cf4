package main

import (
	"context"
	"fmt"

	"hotpatch/internal/check"
	"hotpatch/internal/diff"
	"hotpatch/internal/patch"
)

// childCheck proves a patch by a second way. Every fault comes out; of what
// could not be proved, how often each kind came up.
func childCheck(out *said, old, fixed []byte, patchFile string) error {
	p, err := patch.Open(patchFile)
	if err != nil {
		return err
	}
	rep, err := check.Patch(p, old, fixed)
	if err != nil {
		return err
	}
	out.Verdict = passed
	kinds := map[check.Code]int{}
	for _, f := range rep.Unproved {
		if kinds[f.Code]++; kinds[f.Code] == 1 {
			out.Details = append(out.Details, f.String())
		}
	}
	if len(rep.Unproved) > 0 {
		out.Verdict = unproved
	}
	if len(rep.Faults) > 0 {
		out.Verdict, out.Details = faulty, nil
		for i, f := range rep.Faults {
			if i == 20 {
				out.Details = append(out.Details, fmt.Sprintf("and %d more", len(rep.Faults)-i))
				break
			}
			out.Details = append(out.Details, f.String())
		}
	}
	out.Proved = rep.Proved.References
	return nil
}

// check has the patch of a file checked in a child.
func (b *bench) check(ctx context.Context, f *file, patchFile string) {
	if f.Build.Verdict != string(diff.Patchable) {
		return
	}
	ran := b.runChild(ctx, "check", f, patchFile)
	f.Check = step{State: ran.said.Verdict, Details: ran.said.Details, References: ran.said.Proved, Seconds: ran.seconds, Memory: ran.memory}
	if ran.how != "" {
		f.Check.State, f.Check.Details = ran.how, []string{ran.why}
	}
}
