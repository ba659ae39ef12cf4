// Command corpus runs the builder over what Debian really ships: of each
// listed source both builds of all its binary packages, fetched from the
// archive. For every program and library that differs it makes the patch in a
// child process, has it checked, and takes it into a process that runs the
// baseline and out again. Where there is a workload for the source, the program
// does it in between, and must do it as the build that is then in its memory.
// What crashes, takes too long or fails otherwise is counted, not hidden.
//
// Results are kept in the cache, so that a run that was cut off goes on where
// it was; they are redone when the archive has other versions or the tool's
// source changed. A run over the whole list writes docs/corpus.md.
//
//	go run ./test/corpus [--only NAME,...] [--slice N/OF] [--budget TIME] [--fresh]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"hotpatch/test/archive"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

type settings struct {
	only, slice, steps, tool, cache, mirror, release, list, doc, refusals string

	fresh, report, all bool

	budget, timeout time.Duration
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		os.Exit(child(os.Args[2:]))
	}
	var s settings
	flag.StringVar(&s.only, "only", "", "the `sources` to try, with commas; all of the list when empty")
	flag.StringVar(&s.slice, "slice", "", "`N/OF`: every OF-th source of the list, beginning with the N-th")
	flag.StringVar(&s.steps, "steps", "build,check,live", "what to do with each file")
	flag.StringVar(&s.tool, "tool", "", "the hotpatch `executable`; built from this checkout when empty")
	flag.StringVar(&s.cache, "cache", "", "the `folder` for packages ($HOTPATCH_CACHE, or hotpatch in the user's cache folder)")
	flag.StringVar(&s.mirror, "mirror", "http://deb.debian.org/debian", "the archive; that of security updates is the same with -security")
	flag.StringVar(&s.release, "release", "bookworm", "the Debian release")
	flag.StringVar(&s.list, "list", "test/debian/bookworm.tsv", "the `file` that lists the sources")
	flag.StringVar(&s.doc, "doc", "docs/corpus.md", "the `document` that a run over the whole list writes")
	flag.StringVar(&s.refusals, "refusals", "", "write every reason to refuse into a `file`")
	flag.BoolVar(&s.all, "all", false, "every source that the archive serves in two versions, not only those of the list")
	flag.BoolVar(&s.fresh, "fresh", false, "redo what was done before")
	flag.BoolVar(&s.report, "report", false, "only report what was done before, whichever builder did it")
	flag.DurationVar(&s.budget, "budget", 0, "begin no source after this `time`")
	flag.DurationVar(&s.timeout, "timeout", 10*time.Minute, "the longest `time` for one file's patch")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "corpus: "+err.Error())
		os.Exit(1)
	}
}

// bench is what all sources share.
type bench struct {
	settings
	archive *archive.Archive
	index   *archive.Index
	tool    tool.Tool
	holder  holder
	store   store
	dir     string
	digest  string
	turn    chan struct{} // one place for each processor
	apt     chan struct{} // apt runs once at a time
}

func run(ctx context.Context, s settings) error {
	root, err := tool.Root(ctx)
	if err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if s.cache == "" {
		if s.cache, err = archive.DefaultCache(); err != nil {
			return err
		}
	}
	b := &bench{settings: s, store: store{filepath.Join(s.cache, "corpus")}}
	b.turn, b.apt = make(chan struct{}, runtime.NumCPU()), make(chan struct{}, 1)
	if b.digest, err = digest(ctx, root, s.steps); err != nil {
		return err
	}
	chosen, err := choose(s)
	if err != nil {
		return err
	}
	if s.report {
		return b.finish(chosen)
	}
	if b.archive, err = archive.Open(ctx, s.cache, s.mirror, s.release); err != nil {
		return err
	}
	if b.index, err = b.archive.Index(ctx); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(s.cache, "corpus-run-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(b.dir)
	b.tool = tool.Tool{Path: s.tool}
	if s.tool == "" {
		if b.tool, err = tool.Build(ctx, b.dir); err != nil {
			return err
		}
	} else if b.tool.Path, err = filepath.Abs(s.tool); err != nil {
		return err
	}
	if b.holder, err = newHolder(ctx, b.dir); err != nil {
		return err
	}
	if s.all {
		chosen = b.index.Twice()
	}
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU() + 1) // one more, so that the archive is read while others compute
	for _, source := range chosen {
		g.Go(func() error {
			if ctx.Err() != nil || s.budget > 0 && time.Since(began) > s.budget {
				return nil
			}
			return b.source(ctx, source)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopped: %w", ctx.Err())
	}
	return b.finish(chosen)
}

// choose lists the sources to try.
func choose(s settings) ([]string, error) {
	if s.only != "" {
		return strings.Split(s.only, ","), nil
	}
	text, err := os.ReadFile(s.list)
	if err != nil {
		return nil, fmt.Errorf("read the list of sources: %w", err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if name != "" && name != "source" && !strings.HasPrefix(name, "#") {
			all = append(all, name)
		}
	}
	if s.slice == "" {
		return all, nil
	}
	var n, of int
	if _, err := fmt.Sscanf(s.slice, "%d/%d", &n, &of); err != nil || n < 1 || n > of {
		return nil, fmt.Errorf("slice %q is not N/OF", s.slice)
	}
	var out []string
	for i := n - 1; i < len(all); i += of {
		out = append(out, all[i])
	}
	return out, nil
}

// finish reports the results of the chosen sources, and fails when one has a
// result that no update may have.
func (b *bench) finish(chosen []string) error {
	rep := &report{when: time.Now(), tool: b.digest}
	for _, source := range chosen {
		r, err := b.store.read(source)
		if err != nil || !b.report && r.Digest != b.digestOf(source) {
			rep.missing = append(rep.missing, source)
			continue
		}
		rep.results = append(rep.results, r)
	}
	if b.refusals != "" {
		if err := table.Replace(b.refusals, rep.writeRefusals); err != nil {
			return err
		}
	}
	if b.only == "" && b.slice == "" && !b.report && !b.all {
		if err := table.Replace(b.doc, rep.write); err != nil {
			return err
		}
		fmt.Println(b.doc + " is written")
	} else if err := rep.write(os.Stdout); err != nil {
		return err
	}
	if bad := rep.failures(); len(bad) > 0 {
		return errors.New("not as it must be: " + strings.Join(bad, "; "))
	}
	return nil
}
