package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"hotpatch/internal/diff"
	"hotpatch/test/table"
)

// failures lists what no update may have: what crashed, took too long or went
// wrong in an unknown way, what the check finds fault with, and what the
// engine could not take in and out.
func (rep *report) failures() []string {
	var out []string
	for _, r := range rep.results {
		if r.Error != "" {
			out = append(out, fmt.Sprintf("%s: %s", r.Source, r.Error))
		}
		for _, k := range r.Workloads {
			if k.Error != "" {
				out = append(out, fmt.Sprintf("%s: workload: %s: %s", r.Source, k.Does, k.Error))
			}
		}
	}
	rep.files(func(r *result, f *file) {
		at := r.Source + " " + f.Path
		if b := f.Build; b.Error != "" {
			out = append(out, fmt.Sprintf("%s: build: %s: %s", at, b.Verdict, b.Error))
		}
		if c := f.Check; c.State == faulty || c.State == timedOut || c.State == crashed || c.State == failed {
			out = append(out, fmt.Sprintf("%s: check: %s: %s", at, c.State, strings.Join(c.Details[:min(len(c.Details), 3)], "; ")))
		}
		if l := f.Live; l.State == liveFailed || l.State == "damaged" || l.State == "exited" {
			out = append(out, fmt.Sprintf("%s: live: %s: %s", at, l.State, l.Detail))
		}
	})
	return out
}

func (rep *report) writeFailures(w io.Writer) error {
	bad := rep.failures()
	if len(bad) == 0 {
		_, err := fmt.Fprintf(w, "Nothing crashed, took too long or went wrong in an unknown way.\n\n")
		return err
	}
	fmt.Fprintf(w, "What crashed, took too long, was found faulty or went wrong in an unknown way:\n\n")
	for _, line := range bad {
		fmt.Fprintf(w, "- %s\n", strings.ReplaceAll(line, "\n", "; "))
	}
	_, err := fmt.Fprintln(w)
	return err
}

// writeNotCycled lists the patchable files whose patch did not go in and out.
func (rep *report) writeNotCycled(w io.Writer) error {
	var rows [][]string
	rep.files(func(r *result, f *file) {
		if l := f.Live; l.State != notYet && l.State != cycled {
			rows = append(rows, []string{r.Source, f.Path, l.State, l.Reason, cut(l.Detail, 120)})
		}
	})
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintf(w, "Patchable files that were not taken in and out.\n\n")
	if err := table.Write(w, []string{"source", "file", "state", "reason", "detail"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

// writeSources is the table by source.
func (rep *report) writeSources(w io.Writer) error {
	var rows [][]string
	for _, r := range rep.results {
		rows = append(rows, r.row())
	}
	fmt.Fprintf(w, "By source. Functions: changed + added in the patches; checked: patches that the check proves; live: patches that went\n"+
		"in and out, of those for which a process could be started; MiB: the most memory that one patch took to build.\n\n")
	return table.Write(w, []string{
		"source", "versions", "differ", "patchable", "unchanged", "refused", "main reasons", "functions", "build, s", "MiB", "checked", "live",
	}, rows)
}

func (r *result) row() []string {
	n, reasons := map[string]int{}, map[diff.Code]int{}
	var changed, added, proved, checked, cycles, loaded int
	var seconds float64
	var memory int64
	for _, f := range r.Files {
		n[f.Build.Verdict]++
		seconds += f.Build.Seconds
		memory = max(memory, f.Build.Memory)
		for _, c := range f.codes() {
			reasons[c]++
		}
		if f.Build.Verdict == string(diff.Patchable) {
			changed += f.Build.Functions.Changed
			added += f.Build.Functions.Added
		}
		if f.Check.State != notYet {
			checked++
			if f.Check.State == passed {
				proved++
			}
		}
		if f.Live.State != notYet && f.Live.State != notLoadedState {
			loaded++
			if f.Live.State == cycled {
				cycles++
			}
		}
	}
	var main []diff.Code
	for c := range reasons {
		main = append(main, c)
	}
	slices.SortFunc(main, func(x, y diff.Code) int {
		return cmp.Or(reasons[y]-reasons[x], strings.Compare(string(x), string(y)))
	})
	why := ""
	for _, c := range main[:min(len(main), 3)] {
		why += fmt.Sprintf(", %s %d", c, reasons[c])
	}
	if r.Error != "" {
		why += "; FAILED: " + cut(r.Error, 80)
	}
	share := func(n, of int) string {
		if of == 0 {
			return "-"
		}
		return fmt.Sprintf("%d of %d", n, of)
	}
	return []string{
		r.Source, r.Old + " → " + r.New, fmt.Sprintf("%d of %d", len(r.Files), r.ELFs),
		fmt.Sprint(n[string(diff.Patchable)]), fmt.Sprint(n[string(diff.Unchanged)]), fmt.Sprint(n[string(diff.Refused)]),
		strings.TrimLeft(why, ",; "), fmt.Sprintf("%d + %d", changed, added), fmt.Sprintf("%.1f", seconds), fmt.Sprint(memory >> 20),
		share(proved, checked), share(cycles, loaded),
	}
}

// cut shortens a text to one line for a table.
func cut(text string, most int) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", "/")
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// writeRefusals lists every reason of every refused file, one a line.
func (rep *report) writeRefusals(w io.Writer) error {
	fmt.Fprintln(w, "source\tpackage\tfile\tcode\tname\tdetail")
	for _, r := range rep.results {
		if r.Error != "" {
			fmt.Fprintf(w, "%s\t\t\tFAILED\t\t%s\n", r.Source, r.Error)
		}
		for _, f := range r.Files {
			for _, why := range f.Build.Reasons {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Source, f.Package, f.Path, why.Code, why.Name, why.Detail)
			}
			if f.Build.Error != "" {
				fmt.Fprintf(w, "%s\t%s\t%s\tFAILED %s\t\t%s\n", r.Source, f.Package, f.Path, f.Build.Verdict, f.Build.Error)
			}
		}
	}
	return nil
}
