package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"hotpatch/internal/diff"
	"hotpatch/test/hits"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

// workload is something that a program does with changed code. What comes of
// it must be what comes of it in the fixed build.
//
// In args, env and input, {/some/file} is where that file of a package of the
// same build lies.
type workload struct {
	source  string
	modules string // the patched files, with blanks: the ends of their paths
	load    bool   // the program does not link them; they are loaded before it is held
	program string // in a package of the source, of one that it needs, or of the machine
	args    string // with blanks
	env     string // with blanks
	input   string // a shell script that makes the files to work on, where the program runs
	needs   string // packages, with blanks, that those of the modules do not depend on
	does    string // in words, for the document
}

// worked is the outcome of a workload.
type worked struct {
	Modules string  `json:"modules"`
	Does    string  `json:"does"`
	Error   string  `json:"error,omitempty"` // why it does not count
	Ran     int     `json:"ran"`             // functions that it ran in the overlay,
	Steered int     `json:"steered"`         // of so many that are entered there
	Differs bool    `json:"differs"`         // the builds give different results
	Text    string  `json:"text,omitempty"`  // the first line that the fixed build's has and the baseline's has not
	Seconds float64 `json:"seconds"`
}

// workloadsOf are those of a source.
func workloadsOf(source string) []workload {
	return slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return w.source != source })
}

// stage is a folder where the copies of one held program run in turn, and what
// they find there.
type stage struct {
	*held
	dir, input string
	out        *os.File
	roots      string // of the packages of this build
}

// stage starts the program of a workload in one build, old or new, held before
// main.
func (b *bench) stage(t *trees, w workload, side string, files []*file) (*stage, error) {
	s := &stage{dir: filepath.Join(t.dir, "stage"), roots: t.root(side, "")}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.out, err = os.OpenFile(filepath.Join(t.dir, "stage.out"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	s.input = t.expand(side, w.input)
	o := order{
		program: t.locate(side, w.program), args: strings.Fields(t.expand(side, w.args)), env: strings.Fields(t.expand(side, w.env)),
		output: s.out, loader: t.ld, dir: s.dir,
	}
	for _, dir := range t.libraries {
		o.folders = append(o.folders, strings.Replace(dir, t.root("old", "")+"/", s.roots+"/", 1))
	}
	for _, f := range files {
		if w.load {
			o.libraries = append(o.libraries, map[string]string{"old": f.old, "new": f.new}[side])
		}
	}
	if s.held, err = b.holder.start(o); err != nil {
		s.out.Close()
		return nil, err
	}
	return s, nil
}

func (s *stage) close() {
	s.held.close()
	s.out.Close()
}

// result makes the input anew, lets a copy of the program run, and is all that
// came of it: its exit status, what it printed and the files that are there.
func (s *stage) result() (string, error) {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, e.Name())))
	}
	if err != nil {
		return "", err
	}
	sh := exec.Command("sh", "-e", "-u", "-c", s.input)
	sh.Dir, sh.Env = s.dir, []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	if out, err := sh.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make the input: %w: %s", err, out)
	}
	if err := s.out.Truncate(0); err != nil {
		return "", err
	}
	status, err := s.run()
	if err != nil {
		return "", err
	}
	printed, err := io.ReadAll(io.NewSectionReader(s.out, 0, 1<<26))
	if err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "exit status %d\n%s\n", status, strings.ReplaceAll(string(printed), s.roots, ""))
	err = filepath.WalkDir(s.dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(at)
		fmt.Fprintf(&text, "%s, %d bytes, %x\n", strings.TrimPrefix(at, s.dir), len(content), sha256.Sum256(content))
		return err
	})
	return text.String(), err
}

// place finds a file in the packages of one build and in what they need.
func (t *trees) locate(side, path string) string {
	for _, root := range []string{t.root(side, "*"), t.root("needed", "*")} {
		if found, err := filepath.Glob(root + path); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	return path
}

var braced = regexp.MustCompile(`\{/[^{}]+\}`)

func (t *trees) expand(side, text string) string {
	return braced.ReplaceAllStringFunc(text, func(s string) string { return t.locate(side, s[1:len(s)-1]) })
}

// exercise compares what comes of a workload in a process that is patched,
// rolled back and patched again with what comes of it in the two builds.
func (b *bench) exercise(ctx context.Context, w workload, t *trees, files []*file, patches []string) worked {
	began := time.Now()
	out := worked{Modules: w.modules, Does: w.does}
	if err := b.compare(ctx, w, t, files, patches, &out); err != nil {
		out.Error = err.Error()
	} else if out.Ran == 0 {
		out.Error = "it runs no function of the patch"
	}
	out.Seconds = time.Since(began).Seconds()
	return out
}

func (b *bench) compare(ctx context.Context, w workload, t *trees, files []*file, patches []string, out *worked) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	alone := func(side string) (string, error) {
		s, err := b.stage(t, w, side, files)
		if err != nil {
			return "", err
		}
		defer s.close()
		return s.result()
	}
	want, err := alone("new")
	if err != nil {
		return fmt.Errorf("the fixed build: %w", err)
	}
	s, err := b.stage(t, w, "old", files)
	if err != nil {
		return fmt.Errorf("the baseline: %w", err)
	}
	defer s.close()
	had, err := s.result()
	if err != nil {
		return fmt.Errorf("the baseline: %w", err)
	}
	out.Differs, out.Text = had != want, news(had, want)
	expect := func(what string) error {
		got, err := s.result()
		if err == nil && got != what {
			err = fmt.Errorf("the result is another: %q instead of %q", news(what, got), news(got, what))
		}
		return err
	}
	var l lived
	if err := b.applied(ctx, &l, s.held, patches); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := expect(want); err != nil {
		return fmt.Errorf("after apply: %w", err)
	}
	if err := b.count(ctx, s, patches, out); err != nil {
		return err
	}
	ps, err := b.tool.Rollback(ctx, []int{s.cmd.Process.Pid})
	if err := l.settle(ps, err, "rolled-back"); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	if err := expect(had); err != nil {
		return fmt.Errorf("after the rollback: %w", err)
	}
	if err := b.applied(ctx, &l, s.held, patches); err != nil {
		return fmt.Errorf("apply again: %w", err)
	}
	if err := expect(want); err != nil {
		return fmt.Errorf("after the second apply: %w", err)
	}
	return nil
}

// count finds how many of the functions that are entered in the overlay the
// workload runs.
func (b *bench) count(ctx context.Context, s *stage, patches []string, out *worked) error {
	pid := s.cmd.Process.Pid
	placed, err := b.tool.Overlay(ctx, pid, patches)
	if err != nil {
		return err
	}
	placed = slices.DeleteFunc(placed, func(p tool.Placed) bool { return !p.Steered })
	var addrs []uint64
	for _, p := range placed {
		addrs = append(addrs, p.Addr)
	}
	counts, err := hits.Count(ctx, pid, addrs, func(context.Context) error {
		_, err := s.result()
		return err
	})
	for _, n := range counts {
		if n > 0 {
			out.Ran++
		}
	}
	out.Steered = len(placed)
	return err
}

// news is the first line of new that old has not at the same place.
func news(old, new string) string {
	had := strings.Split(old, "\n")
	for i, line := range strings.Split(new, "\n") {
		if i >= len(had) || had[i] != line {
			return cut(line, 200)
		}
	}
	return ""
}

// exerciseAll does the workloads of a source, one after the other.
func (b *bench) exerciseAll(ctx context.Context, r *result, t *trees, patch func(int) string) {
	for _, w := range workloadsOf(r.Source) {
		var files []*file
		var patches []string
		for _, m := range strings.Fields(w.modules) {
			for i, f := range r.Files {
				if f.Build.Verdict == string(diff.Patchable) && strings.HasSuffix(f.Path, "/"+m) {
					files, patches = append(files, f), append(patches, patch(i))
				}
			}
		}
		b.turn <- struct{}{}
		r.Workloads = append(r.Workloads, b.exercise(ctx, w, t, files, patches))
		<-b.turn
	}
}

// writeWorkloads is the table of the workloads.
func (rep *report) writeWorkloads(w io.Writer) error {
	var rows [][]string
	sources, differing := map[string]bool{}, map[string]bool{}
	for _, r := range rep.results {
		for _, k := range r.Workloads {
			answers := "as the fixed build"
			if k.Error != "" {
				answers = "FAILED: " + cut(k.Error, 120)
			} else {
				sources[r.Source] = true
			}
			differs := "no"
			if k.Differs {
				differs = "yes: " + cut(k.Text, 80)
				differing[r.Source] = k.Error == "" || differing[r.Source]
			}
			rows = append(rows, []string{r.Source, k.Modules, k.Does, fmt.Sprintf("%d of %d", k.Ran, k.Steered), answers, differs})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintf(w, `Workloads: the real program is held before main and patched; a copy of it (fork) then runs the workload to its end, in
the baseline, patched, rolled back and patched again. Exit status, output and files that were written are compared byte
for byte with those of the fixed build, and after the rollback with those of the baseline. Functions: of those that are
entered in the overlay, how many the workload ran there, counted by the processor's breakpoints.

**%d sources** did so; in %d of them the builds give different results.

`, len(sources), len(differing))
	if err := table.Write(w, []string{"source", "patched", "workload", "functions run", "results", "builds differ"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}
