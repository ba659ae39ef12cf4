package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"hotpatch/internal/diff"
	"hotpatch/test/machine"
	"hotpatch/test/table"
)

// report is what the results of a run say together.
type report struct {
	when    time.Time
	tool    string // digest
	results []*result
	missing []string // sources without a result of this tool
}

// verdict is that of a source: what its worst file has.
func (r *result) verdict() string {
	for _, v := range []string{failed, crashed, timedOut, string(diff.Refused), string(diff.Patchable)} {
		if slices.ContainsFunc(r.Files, func(f *file) bool { return f.Build.Verdict == v }) {
			return v
		}
	}
	if r.Error != "" {
		return failed
	}
	return string(diff.Unchanged)
}

// upstream says whether the upstream version stayed the same.
func (r *result) sameUpstream() bool { return upstream(r.Old) == upstream(r.New) }

// upstream is the part of a Debian version before its revision and behind its
// epoch, deb-version(7).
func upstream(version string) string {
	if _, rest, ok := strings.Cut(version, ":"); ok {
		version = rest
	}
	if i := strings.LastIndexByte(version, '-'); i >= 0 {
		version = version[:i]
	}
	return version
}

// files calls each for every file that differs.
func (rep *report) files(each func(*result, *file)) {
	for _, r := range rep.results {
		for _, f := range r.Files {
			each(r, f)
		}
	}
}

func (rep *report) write(w io.Writer) error {
	fmt.Fprintf(w, `# Corpus

What the builder makes of Debian's own updates: of each source both builds of all its packages for x86-64, as the archive
serves them. Printed by `+"`make corpus`"+` on %s, %s; tool %s.
For every program and library that differs the patch is built in a process of its own, checked, and taken into a process
that has the baseline loaded and out again.

`, rep.when.Format(time.DateOnly), machine.Name(), rep.tool)
	if len(rep.missing) > 0 {
		fmt.Fprintf(w, "%d sources have no result of this tool: %s.\n\n", len(rep.missing), strings.Join(rep.missing, ", "))
	}
	for _, part := range []func(io.Writer) error{
		rep.writeTotals, rep.writeLive, rep.writeWorkloads, rep.writeReasons, rep.writeFailures, rep.writeNotCycled, rep.writeSources,
	} {
		if err := part(w); err != nil {
			return err
		}
	}
	return nil
}

// shares counts the sources that a process should survive without a restart:
// no new upstream version, changed code; and those of them all of whose files
// are patchable or unchanged; and those of them whose every patch went in and
// out.
func (rep *report) shares() (of, whole, live int) {
	for _, r := range rep.results {
		if v := r.verdict(); r.sameUpstream() && v != string(diff.Unchanged) {
			of++
			if v == string(diff.Patchable) {
				whole++
				if !slices.ContainsFunc(r.Files, func(f *file) bool {
					return f.Build.Verdict == string(diff.Patchable) && f.Live.State != cycled
				}) {
					live++
				}
			}
		}
	}
	return of, whole, live
}

func (rep *report) writeTotals(w io.Writer) error {
	elfs, differ, fetched := 0, 0, int64(0)
	files, sources := map[string]int{}, map[string]int{}
	for _, r := range rep.results {
		elfs += r.ELFs
		differ += len(r.Files)
		fetched += r.Fetched
		sources[r.verdict()]++
	}
	var seconds []float64
	var memory []float64
	var changed int
	rep.files(func(_ *result, f *file) {
		files[f.Build.Verdict]++
		seconds = append(seconds, f.Build.Seconds)
		memory = append(memory, float64(f.Build.Memory)/(1<<20))
		if f.Build.Verdict == string(diff.Patchable) {
			changed += f.Build.Functions.Changed + f.Build.Functions.Added
		}
	})
	of, whole, live := rep.shares()
	fmt.Fprintf(w, "**%d of %d sources** (%s) that have changed code and no new upstream version are patchable as a whole; the aim is 60 %%.\n"+
		"Of %d of them every module went into a process and out again.\n\n", whole, of, percent(whole, of), live)
	fmt.Fprintf(w, "%d sources, %d programs and libraries in both builds, %d of them differ; %d functions in the patches; %d MiB fetched.\n\n",
		len(rep.results), elfs, differ, changed, fetched>>20)
	var rows [][]string
	for _, v := range []string{string(diff.Patchable), string(diff.Unchanged), string(diff.Refused), timedOut, crashed, failed} {
		rows = append(rows, []string{v, fmt.Sprint(files[v]), percent(files[v], differ), fmt.Sprint(sources[v])})
	}
	if err := table.Write(w, []string{"verdict", "files", "share", "sources (by their worst file)"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	rows = [][]string{
		append([]string{"seconds"}, spread(seconds, "%.2f")...),
		append([]string{"memory, MiB"}, spread(memory, "%.0f")...),
	}
	if err := table.Write(w, []string{"to build one file's patch", "median", "99th percentile", "most", "all"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

func (rep *report) writeLive(w io.Writer) error {
	checks, lives := map[string]int{}, map[string]int{}
	var pauses []float64
	text := 0
	rep.files(func(_ *result, f *file) {
		if f.Build.Verdict != string(diff.Patchable) {
			return
		}
		checks[cmp.Or(f.Check.State, "not done")]++
		state := cmp.Or(f.Live.State, "not done")
		if f.Live.Reason != "" {
			state += ": " + f.Live.Reason
		}
		lives[state]++
		pauses = append(pauses, f.Live.PausesUS...)
		text += f.Live.Text
	})
	rows := func(counts map[string]int) [][]string {
		var out [][]string
		for state, n := range counts {
			out = append(out, []string{state, fmt.Sprint(n)})
		}
		slices.SortFunc(out, func(x, y []string) int {
			return cmp.Or(cmp.Compare(counts[y[0]], counts[x[0]]), strings.Compare(x[0], y[0]))
		})
		return out
	}
	if err := table.Write(w, []string{"static check of a patch", "files"}, rows(checks)); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := table.Write(w, []string{"live cycle", "files"}, rows(lives)); err != nil {
		return err
	}
	fmt.Fprintf(w, `
The live cycle is apply, verify, roll back, compare the code with what it was, apply again, verify; the process must
answer after each. Programs are held before main, libraries are loaded by a small program or, when they are plug-ins, by
the program they are made for; "unbound" hosts could not resolve all that a plug-in calls. %d bytes of code were as
before after the rollbacks.

`, text)
	if err := table.Write(w, []string{"pause", "median", "99th percentile", "most", "all"}, [][]string{
		append([]string{"microseconds"}, spread(pauses, "%.0f")...),
	}); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

// writeReasons counts files and sources by the reasons to refuse.
func (rep *report) writeReasons(w io.Writer) error {
	files, alone, sources := map[diff.Code]int{}, map[diff.Code]int{}, map[diff.Code]map[string]bool{}
	rep.files(func(r *result, f *file) {
		codes := f.codes()
		for _, c := range codes {
			files[c]++
			if len(codes) == 1 {
				alone[c]++
			}
			if sources[c] == nil {
				sources[c] = map[string]bool{}
			}
			sources[c][r.Source] = true
		}
	})
	var rows [][]string
	var all []diff.Code
	for c := range files {
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y diff.Code) int {
		return cmp.Or(files[y]-files[x], strings.Compare(string(x), string(y)))
	})
	for _, c := range all {
		rows = append(rows, []string{
			"`" + string(c) + "`", fmt.Sprint(files[c]), fmt.Sprint(alone[c]), fmt.Sprint(len(sources[c])), cmp.Or(wishes[c], "(nothing is written about this reason)"),
		})
	}
	fmt.Fprintf(w, "Why files are refused; a file may have several reasons. Some are read against the source in\n[refusals.md](refusals.md).\n\n")
	if err := table.Write(w, []string{"reason", "files", "as the only one", "sources", "what would have to be done"}, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

// codes are the kinds of reasons of a file, each once, most first.
func (f *file) codes() []diff.Code {
	n := map[diff.Code]int{}
	var out []diff.Code
	for _, r := range f.Build.Reasons {
		if n[r.Code]++; n[r.Code] == 1 {
			out = append(out, r.Code)
		}
	}
	slices.SortStableFunc(out, func(x, y diff.Code) int { return n[y] - n[x] })
	return out
}

func percent(n, of int) string {
	if of == 0 {
		return "none"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(of))
}

// spread is the median, the 99th percentile, the most and the sum.
func spread(values []float64, format string) []string {
	if len(values) == 0 {
		return []string{"-", "-", "-", "-"}
	}
	slices.Sort(values)
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	at := func(q float64) float64 { return values[min(len(values)-1, int(q*float64(len(values))))] }
	var out []string
	for _, v := range []float64{at(0.5), at(0.99), values[len(values)-1], sum} {
		out = append(out, fmt.Sprintf(format, v))
	}
	return out
}
