package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hotpatch/internal/engine"
	"hotpatch/test/tool"
)

// lived is the outcome of the live cycle of one file.
type lived struct {
	State    string    `json:"state,omitempty"`  // empty: not tried
	Reason   string    `json:"reason,omitempty"` // code
	Detail   string    `json:"detail,omitempty"`
	Host     string    `json:"host,omitempty"`      // the program that loaded a library
	PausesUS []float64 `json:"pauses_us,omitempty"` // apply, rollback, apply
	Level    string    `json:"level,omitempty"`
	Together bool      `json:"together,omitempty"` // with the other patches of the source
	Text     int       `json:"text,omitempty"`     // bytes of code that were as before
	Seconds  float64   `json:"seconds,omitempty"`
}

// The states of a live cycle. All but cycled and notLoadedState are failures
// or refusals of the engine, which Reason types.
const (
	cycled         = "cycled"
	notLoadedState = "not-loaded"
	liveFailed     = "failed"
)

// live takes the patch of a file into a process that runs the baseline and out
// again: apply, verify, roll back, compare the code with what it was, apply
// again.
//
// What needs a function that another module of the same update exports for the
// first time is applied together with the other patches of the source.
func (b *bench) live(ctx context.Context, f *file, t *trees, patch string, others []string, dir string) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err := b.cycle(ctx, f, t, []string{patch}, dir)
	if err != nil && f.Live.Reason == string(engine.NoImport) && len(others) > 1 {
		alone := f.Live
		f.Live = lived{Together: true}
		if b.cycle(ctx, f, t, others, dir) == nil {
			err = nil
		} else {
			f.Live = alone
		}
	}
	f.Live.Seconds = time.Since(began).Seconds()
	var no *notLoaded
	switch {
	case errors.As(err, &no):
		f.Live.State, f.Live.Reason, f.Live.Detail = notLoadedState, no.code, no.detail
	case err != nil:
		f.Live.Detail = err.Error()
		if f.Live.State == "" {
			f.Live.State = liveFailed
		}
	default:
		f.Live.State = cycled
	}
}

func (b *bench) cycle(ctx context.Context, f *file, t *trees, patches []string, dir string) error {
	p, err := b.load(f, t, dir)
	if err != nil {
		return err
	}
	defer p.close()
	pid := p.cmd.Process.Pid
	before, err := text(pid, f.old)
	if err != nil {
		return err
	}
	if len(before) == 0 {
		return &notLoaded{"not-mapped", "the process has no code of the baseline's file"}
	}
	if err := b.applied(ctx, &f.Live, p, patches); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	ps, err := b.tool.Rollback(ctx, []int{pid})
	if err := f.Live.settle(ps, err, "rolled-back"); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	after, err := text(pid, f.old)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		return errors.New("after the rollback the code is not what it was")
	}
	f.Live.Text = len(after)
	if err := p.ping(); err != nil {
		return fmt.Errorf("after the rollback: %w", err)
	}
	if err := b.applied(ctx, &f.Live, p, patches); err != nil {
		return fmt.Errorf("apply again: %w", err)
	}
	return nil
}

// applied applies and verifies, and checks that the process lives.
func (b *bench) applied(ctx context.Context, l *lived, p *held, patches []string) error {
	pids := []int{p.cmd.Process.Pid}
	ps, err := b.tool.Apply(ctx, pids, patches...)
	if err := l.settle(ps, err, "patched"); err != nil {
		return err
	}
	l.Level = ps[0].Level
	if !ps[0].Verified {
		return errors.New("it is not verified")
	}
	vs, err := b.tool.Verify(ctx, pids)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if vs[0].State != "verified" {
		return fmt.Errorf("verify: %s %s", vs[0].State, vs[0].Findings)
	}
	return p.ping()
}

// settle keeps what the command said of the one process.
func (l *lived) settle(ps []tool.Process, err error, want string) error {
	if len(ps) == 1 && ps[0].State != want && len(ps[0].Reasons) > 0 {
		l.State, l.Reason = ps[0].State, ps[0].Reasons[0].Code
	}
	if err != nil {
		return err
	}
	if ps[0].State != want {
		return fmt.Errorf("it is %s: %s", ps[0].State, tool.Explain(ps[0].Reasons))
	}
	l.PausesUS = append(l.PausesUS, ps[0].PauseUS)
	return nil
}

// load starts a process that has the baseline loaded: the program itself, or
// one that loads the library. A library that needs symbols of others than it
// names, as plug-ins do, is loaded into the program that offers them or after
// the library that does; one for which none is found is loaded with its calls
// unbound.
func (b *bench) load(f *file, t *trees, dir string) (*held, error) {
	if err := os.Chmod(f.old, 0o755); err != nil { // without the bits that make the loader distrust its environment
		return nil, err
	}
	o := order{program: f.old, args: []string{"--version"}, loader: t.ld, folders: t.libraries, dir: dir}
	if f.Program {
		if !interpreted(f.old) {
			return nil, &notLoaded{"static", "it has no dynamic loader, which could hold it"}
		}
		return b.holder.start(o)
	}
	o.program = b.holder.host
	if !strings.HasPrefix(filepath.Base(f.old), "ld-linux") { // which is there already
		o.libraries = []string{f.old}
	}
	wanted := dynamicSymbols(f.old, func(s elf.Symbol) bool { return s.Section == elf.SHN_UNDEF })
	p, err := b.holder.start(o)
	for range 40 {
		var no *notLoaded
		if !errors.As(err, &no) || no.code != "undefined-symbol" {
			break
		}
		e := t.exporter(no.detail, wanted)
		if e == nil || e.program && o.program != b.holder.host || slices.Contains(o.libraries, e.at) {
			break
		}
		if e.program {
			o.program, f.Live.Host = e.at, filepath.Base(e.at)
		} else {
			o.libraries = append([]string{e.at}, o.libraries...)
		}
		p, err = b.holder.start(o)
	}
	if err == nil {
		return p, nil
	}
	f.Live.Host = ""
	o.program, o.libraries, o.lazy = b.holder.host, []string{f.old}, true
	p, lazyErr := b.holder.start(o)
	if lazyErr != nil {
		return nil, err
	}
	f.Live.Host = "unbound"
	return p, nil
}
