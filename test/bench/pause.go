package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"hotpatch/test/meter"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

// pause applies a patch of ten functions to a target and rolls it back, again
// and again, for several numbers of threads. Beside what hotpatch reports
// stands what the target saw, what it sees in as much time in which nothing
// patches it, and what while hotpatch runs but has nothing to do with it.
func (b *bench) pause(ctx context.Context) error {
	program, patch, err := b.compile(ctx, 10)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, threads := range []int{1, 8, 64, 512} {
		row, err := b.pauseOf(ctx, program, patch, threads)
		if err != nil {
			return fmt.Errorf("%d threads: %w", threads, err)
		}
		rows = append(rows, row)
	}
	fmt.Printf("\nPause, %d times apply and rollback of 10 functions, level strict; median and 99th percentile in microseconds\n\n", b.rounds)
	return table.Write(os.Stdout, []string{
		"threads", "apply, reported", "rollback, reported", "no thread ran", "... without patching", "... while hotpatch inspects a file",
		"longest gap of a thread", "... without patching", "stops",
	}, rows)
}

// samples of one number of threads.
type samples struct {
	apply, rollback         []float64 // microseconds, as reported
	all, own                []float64 // microseconds, as the target saw
	calmAll, calmOwn, stops []float64
	other                   []float64 // microseconds, while hotpatch does something else
}

func (b *bench) pauseOf(ctx context.Context, program, patch string, threads int) ([]string, error) {
	t, err := start(ctx, program, threads)
	if err != nil {
		return nil, err
	}
	defer t.stop()
	var s samples
	pids := []int{t.pid()}
	for range b.rounds {
		took, err := s.take(ctx, t, "patched", func() ([]tool.Process, error) { return b.tool.Apply(ctx, pids, patch) }, &s.apply)
		if err != nil {
			return nil, err
		}
		if err := t.expect(ctx, 2); err != nil {
			return nil, err
		}
		if _, err := s.take(ctx, t, "rolled-back", func() ([]tool.Process, error) { return b.tool.Rollback(ctx, pids) }, &s.rollback); err != nil {
			return nil, err
		}
		if err := t.expect(ctx, 1); err != nil {
			return nil, err
		}
		t.reset()
		if err := wait(ctx, took); err != nil {
			return nil, err
		}
		calm := t.read()
		s.calmAll, s.calmOwn = append(s.calmAll, micros(calm.all)), append(s.calmOwn, micros(calm.own))
		t.reset()
		if _, err := b.tool.Inspect(ctx, patch); err != nil { // touches no process
			return nil, err
		}
		s.other = append(s.other, micros(t.read().all))
	}
	row := []string{fmt.Sprint(threads)}
	for _, values := range [][]float64{s.apply, s.rollback, s.all, s.calmAll, s.other, s.own, s.calmOwn} {
		row = append(row, medianAndTail(values))
	}
	slices.Sort(s.stops)
	return append(row, fmt.Sprintf("%.0f, at most %.0f", meter.Percentile(s.stops, 50), meter.Percentile(s.stops, 100))), nil
}

// take runs one command and notes what it reported and what the target saw
// meanwhile. It returns how long the command took.
func (s *samples) take(ctx context.Context, t *target, want string, command func() ([]tool.Process, error), reported *[]float64) (time.Duration, error) {
	t.reset()
	began := time.Now()
	ps, err := command()
	took := time.Since(began)
	if err != nil {
		return took, err
	}
	seen := t.read()
	p := ps[0]
	if p.State != want {
		return took, fmt.Errorf("state %q, not %q: %s", p.State, want, tool.Explain(p.Reasons))
	}
	*reported = append(*reported, p.PauseUS)
	s.all, s.own = append(s.all, micros(seen.all)), append(s.own, micros(seen.own))
	s.stops = append(s.stops, float64(p.Stops))
	return took, ctx.Err()
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func medianAndTail(values []float64) string {
	slices.Sort(values)
	return fmt.Sprintf("%.0f, %.0f", meter.Percentile(values, 50), meter.Percentile(values, 99))
}

// call times calls of a function before and after it is patched.
func (b *bench) call(ctx context.Context) error {
	program, patch, err := b.compile(ctx, 10)
	if err != nil {
		return err
	}
	t, err := start(ctx, program, 0)
	if err != nil {
		return err
	}
	defer t.stop()
	var rows [][]string
	measure := func(what string) error {
		t.page.changed.Store(0)
		t.page.unchanged.Store(0)
		until := t.page.rounds.Load() + 100
		for t.page.rounds.Load() < until {
			if err := wait(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		rows = append(rows, []string{what, nanos(t.page.changed.Load()), nanos(t.page.unchanged.Load())})
		return nil
	}
	if err := measure("before"); err != nil {
		return err
	}
	if _, err := b.tool.Apply(ctx, []int{t.pid()}, patch); err != nil {
		return err
	}
	if err := t.expect(ctx, 2); err != nil {
		return err
	}
	if err := measure("patched"); err != nil {
		return err
	}
	fmt.Printf("\nNanoseconds for a call, best of 100 batches of 2,000,000\n\n")
	return table.Write(os.Stdout, []string{"", "of a changed function", "of an unchanged function"}, rows)
}

func nanos(picoseconds int64) string { return fmt.Sprintf("%.2f", float64(picoseconds)/1000) }
