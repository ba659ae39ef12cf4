// Command debian tries hotpatch on real updates of Debian packages. For each
// pair of builds that the archive serves it starts a process on the older one,
// puts load on it, replaces the files as dpkg does, applies, verifies, rolls
// back and applies again, while the load goes on. Where the two builds are
// known to answer something differently, it checks that the process answers
// like the fixed build after apply and like the baseline after rollback.
//
// Packages go into a folder of their own; nothing is installed. It prints a
// table and ends with exit code 1 when anything was not as promised. A pair
// that hotpatch refuses is in the table with the reason.
//
//	go run ./test/debian [--only NAME,...] [--json]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hotpatch/test/archive"
	"hotpatch/test/meter"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

// pairs are the updates that are put to work.
var pairs = []pair{haproxy, redis, xz, brotli, libgd2, nginx, nginxBefore, gio}

type settings struct {
	only, tool, cache, mirror, release string
	json                               bool
	calm                               time.Duration
	rounds                             int
}

func main() {
	var s settings
	flag.StringVar(&s.only, "only", "", "the `sources` to try, with commas; all when empty")
	flag.StringVar(&s.tool, "tool", "", "the hotpatch `executable`; built from this checkout when empty")
	flag.StringVar(&s.cache, "cache", "", "the `folder` for packages ($HOTPATCH_CACHE, or hotpatch in the user's cache folder)")
	flag.StringVar(&s.mirror, "mirror", "http://deb.debian.org/debian", "the archive; that of security updates is the same with -security")
	flag.StringVar(&s.release, "release", "bookworm", "the Debian release")
	flag.BoolVar(&s.json, "json", false, "print one JSON object instead of tables")
	flag.DurationVar(&s.calm, "calm", 2*time.Second, "how long load runs before and after patching")
	flag.IntVar(&s.rounds, "rounds", 1, "how `often` the patches go in and out under load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "debian: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	chosen, err := choose(s.only)
	if err != nil {
		return err
	}
	if s.cache == "" {
		if s.cache, err = archive.DefaultCache(); err != nil {
			return err
		}
	}
	a, err := archive.Open(ctx, s.cache, s.mirror, s.release)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.cache, "run-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	t := tool.Tool{Path: s.tool}
	if t.Path == "" {
		if t, err = tool.Build(ctx, dir); err != nil {
			return err
		}
	}
	var outcomes []*outcome
	for _, p := range chosen {
		if ctx.Err() != nil {
			return fmt.Errorf("stopped: %w", ctx.Err())
		}
		outcomes = append(outcomes, try(ctx, p, t, a, filepath.Join(dir, p.name()), s))
	}
	return report(outcomes, s.json)
}

func choose(only string) ([]pair, error) {
	if only == "" {
		return pairs, nil
	}
	var chosen []pair
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(pairs, func(p pair) bool { return p.name() == name })
		if i < 0 {
			return nil, fmt.Errorf("no pair %q; there are: %s", name, strings.Join(names(), ", "))
		}
		chosen = append(chosen, pairs[i])
	}
	return chosen, nil
}

func names() []string {
	var out []string
	for _, p := range pairs {
		out = append(out, p.name())
	}
	return out
}

// took is a duration, which a target that only counts does not tell.
func took(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(time.Microsecond).String()
}

// try runs one pair, for at most two minutes once its packages are here, and a
// second for each round.
func try(ctx context.Context, p pair, t tool.Tool, a *archive.Archive, dir string, s settings) *outcome {
	began := time.Now()
	trial := &trial{pair: p, tool: t, out: &outcome{Source: p.name()}}
	trial.log = func(format string, args ...any) {
		if !s.json {
			fmt.Printf("-- %s: "+format+"\n", append([]any{p.name()}, args...)...)
		}
	}
	err := trial.prepare(ctx, a, dir)
	if err == nil {
		trial.log("%s, then %s", trial.out.Baseline, trial.out.Fixed)
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+time.Duration(s.rounds)*time.Second)
		err = trial.run(ctx, dir, s)
		cancel()
	}
	if err != nil {
		trial.out.Error = err.Error()
		trial.log("FAILED: %v", err)
	}
	trial.out.Seconds = time.Since(began).Seconds()
	return trial.out
}

func report(outcomes []*outcome, asJSON bool) error {
	var failed []string
	for _, o := range outcomes {
		if o.Error != "" || o.Failed > 0 {
			failed = append(failed, o.Source)
		}
	}
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(map[string]any{"pairs": outcomes}); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	} else if err := printTables(outcomes); err != nil {
		return err
	}
	if len(failed) > 0 {
		return errors.New("not as promised: " + strings.Join(failed, ", "))
	}
	return nil
}

func printTables(outcomes []*outcome) error {
	var rows, answers, phases [][]string
	for _, o := range outcomes {
		ran := fmt.Sprintf("%d of %d", o.Ran, o.RanOf)
		if o.RanWhy != "" {
			ran = "not counted: " + o.RanWhy
		}
		var pauses []string
		for _, us := range o.PausesUS {
			pauses = append(pauses, fmt.Sprintf("%.0f", us))
		}
		const few = 8
		if sorted := slices.Sorted(slices.Values(o.PausesUS)); len(sorted) > few {
			pauses = []string{fmt.Sprintf("median %.0f, p99 %.0f of %d", meter.Percentile(sorted, 50), meter.Percentile(sorted, 99), len(sorted))}
		}
		note := o.Reason
		if o.Error != "" {
			note = "FAILED: " + strings.ReplaceAll(o.Error, "\n", "; ")
		}
		rows = append(rows, []string{
			o.Source, strings.TrimSuffix(o.Baseline+" → "+o.Fixed+" → "+o.Later, " → "),
			fmt.Sprintf("%d + %d", o.Functions.Changed, o.Functions.Added),
			o.Verdict, o.State, strings.Join(pauses, ", "), fmt.Sprint(o.Requests), fmt.Sprint(o.Failed), ran, note,
		})
		for _, p := range o.Phases {
			rounds := "-"
			if p.Phase == meter.During {
				rounds = fmt.Sprint(o.Rounds)
			}
			phases = append(phases, []string{
				o.Source, p.Phase.String(), rounds, fmt.Sprint(p.Requests), fmt.Sprint(p.Failed), fmt.Sprintf("%.0f", p.PerSecond),
				took(p.P50), took(p.P99), took(p.Longest),
			})
		}
		for i, who := range []string{"baseline", "fixed build", "after apply", "after rollback", "after second apply"} {
			if i < len(o.Answers) {
				answers = append(answers, []string{o.Source, who, o.Answers[i]})
			}
		}
	}
	fmt.Println()
	header := []string{"source", "versions", "changed + added", "verdict", "state", "pauses, µs", "requests", "failed", "functions run", "note"}
	if err := table.Write(os.Stdout, header, rows); err != nil {
		return err
	}
	fmt.Println()
	if err := table.Write(os.Stdout, []string{"source", "who", "answers"}, answers); err != nil {
		return err
	}
	fmt.Println()
	return table.Write(os.Stdout, []string{"source", "phase", "rounds", "requests", "failed", "per second", "p50", "p99", "longest"}, phases)
}
