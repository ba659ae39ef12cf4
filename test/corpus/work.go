package main

import (
	"cmp"
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
// In args and env, which are split at blanks, {/some/file} is where that file
// of a package of the same build lies.
type workload struct {
	source  string
	modules string // the patched files, with blanks: the ends of their paths
	load    bool   // the program does not link them; they are loaded before it is held
	program string // in a package of the source, of one that it needs, or of the machine
	args    string
	env     string
	input   string // a shell script that makes the files to work on, where the program runs
	needs   string // packages, with blanks, that those of the modules do not depend on
	does    string // in words, for the document
}

// worked is the outcome of a workload.
type worked struct {
	Modules string  `json:"modules"`
	Does    string  `json:"does"`
	Error   string  `json:"error,omitempty"`   // what is not as it must be
	Because string  `json:"because,omitempty"` // why it shows nothing, without an error
	Ran     int     `json:"ran"`               // functions that it ran in the overlay,
	Steered int     `json:"steered"`           // of so many that are entered there
	Differs string  `json:"differs,omitempty"` // the first lines in which the two builds' results differ
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
	s := &stage{dir: filepath.Join(t.dir, "stage"), input: w.input, roots: t.root(side, "")}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.out, err = os.OpenFile(filepath.Join(t.dir, "stage.out"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	this := func(old string) string { return strings.Replace(old, t.root("old", "")+"/", s.roots+"/", 1) }
	o := order{
		program: t.locate(side, w.program), args: t.expand(side, w.args), env: t.expand(side, w.env),
		output: s.out, loader: this(t.ld), dir: s.dir,
	}
	for _, dir := range t.libraries {
		o.folders = append(o.folders, this(dir))
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
		fmt.Fprintf(&text, "%s: %d bytes, %.8x\n", strings.TrimPrefix(at, s.dir+"/"), len(content), sha256.Sum256(content))
		return err
	})
	return text.String(), err
}

// locate finds a file in the packages of one build and in what they need.
func (t *trees) locate(side, path string) string {
	for _, root := range []string{t.root(side, "*"), t.root("needed", "*")} {
		if found, err := filepath.Glob(root + path); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	return path
}

var braced = regexp.MustCompile(`\{/[^{}]+\}`)

// expand splits a text at blanks and puts in where files lie.
func (t *trees) expand(side, text string) []string {
	if text == "" {
		return nil
	}
	words := strings.Split(text, " ")
	for i, w := range words {
		words[i] = braced.ReplaceAllStringFunc(w, func(s string) string { return t.locate(side, s[1:len(s)-1]) })
	}
	return words
}

// exercise does the workloads of a source, one after the other.
func (b *bench) exercise(ctx context.Context, r *result, t *trees, patch func(int) string) {
	for _, w := range workloadsOf(r.Source) {
		out := worked{Modules: w.modules, Does: w.does}
		var files []*file
		var patches []string
		for m := range strings.FieldsSeq(w.modules) {
			i := slices.IndexFunc(r.Files, func(f *file) bool { return strings.HasSuffix(f.Path, "/"+m) })
			if i < 0 || r.Files[i].Build.Verdict != string(diff.Patchable) {
				out.Because = m + " has no patch"
				break
			}
			files, patches = append(files, r.Files[i]), append(patches, patch(i))
		}
		began := time.Now()
		if out.Because == "" {
			b.turn <- struct{}{}
			if err := b.compare(ctx, w, t, files, patches, &out); err != nil {
				out.Error = err.Error()
			}
			<-b.turn
		}
		out.Seconds = time.Since(began).Seconds()
		r.Workloads = append(r.Workloads, out)
	}
}

// compare compares what comes of a workload in a process that is patched,
// rolled back and patched again with what comes of it in the two builds.
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
	out.Differs = unlike(had, want)
	expect := func(what string) error {
		got, err := s.result()
		if err == nil && got != what {
			err = errors.New("the result is another: " + unlike(what, got))
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
		out.Because = "not counted: " + err.Error()
	} else if out.Ran == 0 {
		out.Because = "it runs none of the functions"
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

// unlike shows the first lines in which two results differ.
func unlike(old, new string) string {
	for old != new {
		var was, is string
		was, old, _ = strings.Cut(old, "\n")
		if is, new, _ = strings.Cut(new, "\n"); was != is {
			return cut(was, 60) + " → " + cut(is, 60)
		}
	}
	return ""
}

// writeWorkloads is the table of the workloads.
func (rep *report) writeWorkloads(w io.Writer) error {
	var rows [][]string
	sources, different := 0, 0
	for _, r := range rep.results {
		shown, differs := false, false
		for _, k := range r.Workloads {
			answers := "as of the fixed build"
			switch {
			case k.Error != "":
				answers = "FAILED: " + cut(k.Error, 200)
			case k.Because != "":
				answers = "do not count: " + cut(k.Because, 200)
			default:
				shown, differs = true, differs || k.Differs != ""
			}
			rows = append(rows, []string{r.Source, k.Modules, k.Does, fmt.Sprintf("%d of %d", k.Ran, k.Steered), answers, cmp.Or(k.Differs, "no")})
		}
		if shown {
			sources++
		}
		if differs {
			different++
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

`, sources, different)
	if err := table.Write(w, []string{"source", "patched", "workload", "functions run", "results", "builds differ"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}
