package main

import (
	"context"
	"fmt"
	"os"

	"hotpatch/test/table"
	"hotpatch/test/tool"
)

// stop measures the stop alone, as hotpatch reports it, the look at the stacks
// in it, and beside it what the kernel takes for any stop: for several numbers
// of threads, at rest and half of them at work, with few entries and with many.
func (b *bench) stop(ctx context.Context) error {
	var rows [][]string
	files := map[int][2]string{}
	for _, functions := range []int{10, 100} {
		program, patch, err := b.compile(ctx, functions)
		if err != nil {
			return err
		}
		files[functions] = [2]string{program, patch}
	}
	for _, threads := range []int{1, 8, 64, 512} {
		for _, work := range [][]string{nil, {"work"}} {
			if threads == 1 && work != nil {
				continue // the one thread never rests
			}
			for _, functions := range []int{10, 100} {
				row, err := b.stopOf(ctx, files[functions], threads, work)
				if err != nil {
					return fmt.Errorf("%d threads, %d functions: %w", threads, functions, err)
				}
				at := "rest"
				if work != nil {
					at = "half of them work"
				}
				rows = append(rows, append([]string{fmt.Sprint(threads), at, fmt.Sprint(functions)}, row...))
			}
		}
	}
	fmt.Printf("\nThe stop, %d times apply, level strict; median and 99th percentile in microseconds; load average %s\n\n", b.rounds, load())
	return table.Write(os.Stdout, []string{"threads", "at", "entries", "pause", "... the look at stacks", "... all else", "a stop in which nothing is done", "blocked"}, rows)
}

func (b *bench) stopOf(ctx context.Context, files [2]string, threads int, work []string) ([]string, error) {
	t, err := start(ctx, files[0], threads, work...)
	if err != nil {
		return nil, err
	}
	defer t.stop()
	pids := []int{t.pid()}
	var pause, check, rest []float64
	blocked := 0 // times that no stop was short enough until the deadline
	do := func(want string, command func() ([]tool.Process, error)) (*tool.Process, error) {
		for {
			ps, err := command()
			if err != nil {
				return nil, err
			}
			p := &ps[0]
			if p.State == want {
				return p, nil
			}
			if p.State != "blocked" || blocked == b.rounds {
				return nil, fmt.Errorf("state %q, not %q: %s", p.State, want, tool.Explain(p.Reasons))
			}
			blocked++
		}
	}
	for range b.rounds {
		p, err := do("patched", func() ([]tool.Process, error) { return b.tool.Apply(ctx, pids, files[1]) })
		if err != nil {
			return nil, err
		}
		pause, check, rest = append(pause, p.PauseUS), append(check, p.CheckUS), append(rest, p.PauseUS-p.CheckUS)
		if _, err := do("rolled-back", func() ([]tool.Process, error) { return b.tool.Rollback(ctx, pids) }); err != nil {
			return nil, err
		}
	}
	floor, err := b.floorOf(ctx, t.pid())
	if err != nil {
		return nil, err
	}
	return []string{medianAndTail(pause), medianAndTail(check), medianAndTail(rest), medianAndTail(floor), fmt.Sprint(blocked)}, ctx.Err()
}
