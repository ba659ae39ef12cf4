package engine

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// Event is a change of state in one process: a step of a transaction begins, or
// it is at its end, and then has a result.
type Event struct {
	process.ID
	Program Name       `json:"program,omitempty"`
	Patches []patch.ID `json:"patches,omitempty"`
	State   string     `json:"state"` // the step, or the State at the end
	Result  *Result    `json:"result,omitempty"`
}

// tell reports that a step begins.
func (t *txn) tell(state string) {
	e := Event{ID: t.p.ID, Program: t.res.Program, State: state}
	for _, u := range slices.Concat(t.units, t.going) {
		e.Patches = append(e.Patches, u.patch.ID)
	}
	t.report(e)
}

// Log writes the event as a record. The messages are "step" and "end"; the keys
// do not change: pid, start, program, patch and state, at the end also consistency,
// pause_us, stops and verified, and reason and detail of the first reason.
func (e *Event) Log(ctx context.Context, l *slog.Logger) {
	var patches []string
	for _, id := range e.Patches {
		patches = append(patches, id.Short())
	}
	attrs := []slog.Attr{
		slog.Int("pid", e.Pid), slog.Uint64("start", e.Start), slog.String("program", string(e.Program)),
		slog.String("patch", strings.Join(patches, ",")), slog.String("state", e.State),
	}
	r := e.Result
	if r == nil {
		l.LogAttrs(ctx, slog.LevelInfo, "step", attrs...)
		return
	}
	level := slog.LevelInfo
	switch r.State {
	case Refused, Blocked, Interrupted:
		level = slog.LevelWarn
	case Failed, Tampered:
		level = slog.LevelError
	}
	attrs = append(attrs, slog.String("consistency", string(r.Level)), slog.Int64("pause_us", r.Pause), slog.Int("stops", r.Tries), slog.Bool("verified", r.Verified))
	if len(r.Reasons) > 0 {
		first := &r.Reasons[0]
		attrs = append(attrs, slog.String("reason", string(first.Code)), slog.String("detail", first.Error()))
	}
	l.LogAttrs(ctx, level, "end", attrs...)
}
