package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"hotpatch/internal/engine"
	"hotpatch/internal/process"
)

// progress shows what is going on, on a terminal, once it takes a second.
type progress struct {
	start, last time.Time
	shown, on   bool
	log         *slog.Logger // nil: nobody asked for it
}

func newProgress(a *app) *progress {
	p := &progress{start: time.Now(), on: !a.json && !a.verbose && term.IsTerminal(int(os.Stderr.Fd()))}
	switch {
	case a.verbose && a.json:
		p.log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
	case a.verbose:
		p.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return p
}

func (p *progress) say(format string, args ...any) {
	const often = 50 * time.Millisecond
	if now := time.Now(); p.on && now.Sub(p.start) > time.Second && now.Sub(p.last) > often {
		fmt.Fprint(os.Stderr, "\r\x1b[K", clean(fmt.Sprintf(format, args...)))
		p.shown, p.last = true, now
	}
}

func (p *progress) done() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
		p.shown = false
	}
}

// settled logs what became of a process without a transaction.
func (p *progress) settled(ctx context.Context, r processReport) {
	e := engine.Event{
		ID: process.ID{Pid: r.PID, Start: r.Start}, Program: engine.Name(r.Program), State: r.State,
		Result: &engine.Result{State: engine.State(r.State)},
	}
	for _, why := range r.Reasons {
		e.Result.Reasons = append(e.Result.Reasons, engine.Reason{Code: engine.Code(why.Code), Module: why.Name, Detail: why.Detail})
	}
	if p.log != nil {
		e.Log(ctx, p.log)
	}
}

// work has workers serve a request, and shows how it goes.
func work(ctx context.Context, req engine.Request, p *progress) ([]engine.Result, error) {
	var c engine.Client
	done, bad := 0, 0
	const few = 50 // processes; of more, nobody can follow the steps of each
	req.Quiet = p.log == nil && (!p.on || len(req.Pids) > few)
	return c.Do(ctx, req, func(e engine.Event) {
		if p.log != nil {
			e.Log(ctx, p.log)
		}
		if e.Result != nil {
			if done++; len(e.Result.Reasons) > 0 {
				bad++
			}
		}
		p.say("%s: %d of %d processes, %d with a reason against it; process %d: %s", req.Op, done, len(req.Pids), bad, e.Pid, e.State)
	})
}

// printSummary says by program how many processes are in which state, and how
// long they stood still, then the reasons, each once.
func printSummary(w io.Writer, ps []processReport) {
	type program struct {
		states map[string]int
		pauses []int64
		n      int
	}
	type why struct{ state, code, name string }
	programs := make(map[string]*program)
	reasons := make(map[why][]processReport)
	for _, p := range ps {
		g := programs[p.Program]
		if g == nil {
			g = &program{states: make(map[string]int)}
			programs[p.Program] = g
		}
		g.n++
		g.states[p.State]++
		if p.PauseUS > 0 {
			g.pauses = append(g.pauses, p.PauseUS)
		}
		for _, r := range p.Reasons {
			k := why{p.State, r.Code, cmp.Or(r.Function, r.Name)}
			reasons[k] = append(reasons[k], p)
		}
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		g := programs[name]
		var states []string
		for _, s := range slices.Sorted(maps.Keys(g.states)) {
			states = append(states, fmt.Sprintf("%d %s", g.states[s], s))
		}
		paused := "-"
		if len(g.pauses) > 0 {
			slices.Sort(g.pauses)
			paused = fmt.Sprintf("%d µs, at most %d", g.pauses[len(g.pauses)/2], g.pauses[len(g.pauses)-1])
		}
		rows = append(rows, []string{cmp.Or(clean(name), "-"), fmt.Sprint(g.n), strings.Join(states, ", "), paused})
	}
	table(w, "PROGRAM PROCESSES STATES PAUSED", rows)
	byCount := func(a, b why) int {
		return cmp.Or(cmp.Compare(len(reasons[b]), len(reasons[a])), cmp.Compare(a.state, b.state), cmp.Compare(a.code, b.code), cmp.Compare(a.name, b.name))
	}
	for _, k := range slices.SortedFunc(maps.Keys(reasons), byCount) {
		const named = 5
		var pids []string
		for _, p := range reasons[k][:min(named, len(reasons[k]))] {
			pids = append(pids, fmt.Sprint(p.PID))
		}
		if len(reasons[k]) > named {
			pids = append(pids, "...")
		}
		what := k.code
		if k.name != "" {
			what += ": " + clean(k.name)
		}
		fmt.Fprintf(w, "%s, %d times: %s (processes %s)\n", k.state, len(reasons[k]), what, strings.Join(pids, ", "))
	}
}
