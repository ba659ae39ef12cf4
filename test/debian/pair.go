package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hotpatch/test/archive"
	"hotpatch/test/hits"
	"hotpatch/test/meter"
	"hotpatch/test/tool"
)

// A pair is a Debian package in two builds and a way to put it to work.
type pair struct {
	source   string   // as in the list
	packages []string // fetched in both versions; the first one's dependencies count
	modules  []string // base names of the ELF files that the process runs and the update replaces
	start    func(context.Context, place) (target, error)
	// builds are those to try where they are not the archive's newest two. A
	// third one comes as a later update of the process that has the second.
	builds []build
	// alone: the update as a whole is refused, because of a module that is not
	// among these; they are patched by themselves, from files.
	alone bool
}

// build is a build of a package that is known by its digest.
type build struct {
	version string
	sha256  string // of the package
}

// name is the source, with the build where it is not the newest.
func (p pair) name() string {
	if n := len(p.builds); n > 0 {
		return p.source + "-" + p.builds[n-1].version
	}
	return p.source
}

// place is where the files of one build lie.
type place struct {
	root      string   // the packages' files
	libraries []string // folders for LD_LIBRARY_PATH
	scratch   string   // for configuration and the like
}

// environment is the environment for a program of this place.
func (p place) environment() []string {
	return append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(p.libraries, ":"))
}

// find is the ELF file of a module, by its base name; symbolic links are
// followed.
func (p place) find(module string) (string, error) {
	for _, rel := range []string{"usr/sbin", "usr/bin", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"} {
		if path, err := filepath.EvalSymlinks(filepath.Join(p.root, rel, module)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no file %s below %s", module, p.root)
}

// A target is a running program of a pair.
type target interface {
	// pids lists the processes that run the module.
	pids() []int
	// ask returns an answer in which the two builds differ, or nothing when
	// none is known.
	ask(context.Context) (string, error)
	// load puts work on the target until the context ends, and counts it. The
	// error says what went wrong apart from requests, such as connections
	// that were lost.
	load(context.Context, *meter.Meter) error
	// close ends the processes.
	close()
}

// outcome is the row of a pair. Its JSON names are read by whoever compares
// runs.
type outcome struct {
	Source    string          `json:"source"`
	Baseline  string          `json:"baseline"`
	Fixed     string          `json:"fixed"`
	Verdict   string          `json:"verdict"`
	Reason    string          `json:"reason,omitempty"`
	Functions tool.Functions  `json:"functions"`
	State     string          `json:"state"`
	Level     string          `json:"level,omitempty"`
	PausesUS  []float64       `json:"pauses_us"` // of each apply and rollback, longest process
	Requests  int             `json:"requests"`
	Failed    int             `json:"failed"`
	Ran       int             `json:"ran"`    // changed and added functions that the load ran in the overlay
	RanOf     int             `json:"ran_of"` // of so many
	RanWhy    string          `json:"ran_why,omitempty"`
	Answers   []string        `json:"answers,omitempty"` // baseline, fixed, after apply, after rollback
	Rounds    int             `json:"rounds"`
	Phases    []meter.Summary `json:"phases,omitempty"`
	Later     string          `json:"later,omitempty"` // the build that replaced the fixed one in the process
	Seconds   float64         `json:"seconds"`
	Error     string          `json:"error,omitempty"`
}

// trial runs one pair.
type trial struct {
	pair
	tool     tool.Tool
	old, new place
	third    place
	patches  []string // files that build made, one for each changed module
	later    []string // of the third build
	out      *outcome
	log      func(format string, args ...any)
}

// prepare fetches both builds and unpacks them below dir.
func (t *trial) prepare(ctx context.Context, a *archive.Archive, dir string) error {
	fetch := func(pkg, version string) (string, error) { return a.Fetch(ctx, pkg, version) }
	if len(t.builds) > 0 {
		t.out.Baseline, t.out.Fixed = t.builds[0].version, t.builds[1].version
		if len(t.builds) > 2 {
			t.out.Later = t.builds[2].version
		}
		fetch = func(pkg, version string) (string, error) {
			i := slices.IndexFunc(t.builds, func(b build) bool { return b.version == version })
			return a.Pinned(ctx, t.source, pkg, version, t.builds[i].sha256)
		}
	} else {
		var err error
		if t.out.Baseline, t.out.Fixed, err = a.NewestTwo(ctx, t.packages[0]); err != nil {
			return err
		}
	}
	deps := filepath.Join(dir, "libraries")
	for build, version := range map[string]string{"old": t.out.Baseline, "new": t.out.Fixed, "third": t.out.Later} {
		if version == "" {
			continue
		}
		p := place{root: filepath.Join(dir, build), scratch: filepath.Join(dir, build+"-scratch")}
		if err := os.MkdirAll(p.scratch, 0o755); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		for i, pkg := range t.packages {
			deb, err := fetch(pkg, version)
			if err != nil {
				return err
			}
			if err := archive.Unpack(ctx, deb, p.root); err != nil {
				return err
			}
			if i == 0 {
				if err := a.Libraries(ctx, deb, deps); err != nil {
					return err
				}
			}
		}
		p.libraries = archive.LibraryDirs(p.root, deps)
		*map[string]*place{"old": &t.old, "new": &t.new, "third": &t.third}[build] = p
	}
	return nil
}

// build asks hotpatch for a verdict on every module.
func (t *trial) build(ctx context.Context, dir string) error {
	verdicts := map[string]bool{}
	for _, module := range t.modules {
		older, err := t.old.find(module)
		if err != nil {
			return err
		}
		newer, err := t.new.find(module)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, module+".hotpatch")
		r, err := t.tool.BuildPatch(ctx, older, newer, file)
		if err != nil {
			return err
		}
		for _, m := range r.Modules {
			verdicts[m.Verdict] = true
			t.out.Functions.Changed += m.Functions.Changed
			t.out.Functions.Added += m.Functions.Added
			t.out.Functions.Steered += m.Functions.Steered
			if m.Verdict == "refused" {
				t.out.Reason = strings.TrimPrefix(t.out.Reason+"; "+m.Module+": "+tool.Explain(m.Reasons), "; ")
			}
			if m.Verdict == "patchable" {
				t.patches = append(t.patches, file)
			}
		}
	}
	for _, v := range []string{"refused", "patchable", "unchanged"} {
		if verdicts[v] {
			t.out.Verdict = v
			return nil
		}
	}
	return errors.New("build says nothing of the modules")
}

// reference starts a build by itself and returns its answer.
func (t *trial) reference(ctx context.Context, p place) (string, error) {
	target, err := t.start(ctx, p)
	if err != nil {
		return "", err
	}
	defer target.close()
	return target.ask(ctx)
}

// run is the whole trial once both builds are there.
func (t *trial) run(ctx context.Context, dir string, s settings) error {
	if err := t.build(ctx, dir); err != nil {
		return err
	}
	if t.out.Later != "" {
		if err := t.buildLater(ctx, dir); err != nil {
			return err
		}
	}
	want, err := t.reference(ctx, t.new)
	if err != nil {
		return fmt.Errorf("the fixed build alone: %w", err)
	}
	target, err := t.start(ctx, t.old)
	if err != nil {
		return fmt.Errorf("the baseline: %w", err)
	}
	defer target.close()
	had, err := target.ask(ctx)
	if err != nil {
		return err
	}
	if want != "" {
		t.out.Answers = []string{had, want}
		if had == want {
			return fmt.Errorf("both builds answer %q: the experiment shows nothing", had)
		}
	}
	if !t.alone {
		if err := archive.Upgrade(t.old.root, t.new.root); err != nil {
			return err
		}
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var m meter.Meter
	m.Enter(meter.Before)
	done := make(chan error, 1)
	go func() { done <- target.load(loading, &m) }()
	err = t.patchAndBack(ctx, target, &m, s)
	stop()
	loadErr := <-done
	t.out.Phases = m.Summarize()
	for _, s := range t.out.Phases {
		t.out.Requests += s.Requests
		t.out.Failed += s.Failed
		loadErr = errors.Join(append([]error{loadErr}, s.Errors...)...)
	}
	return errors.Join(err, loadErr)
}

// patchAndBack applies, verifies, rolls back and applies again, while the load
// goes on.
func (t *trial) patchAndBack(ctx context.Context, target target, m *meter.Meter, s settings) error {
	pids := target.pids()
	rest(ctx, s.calm)
	m.Enter(meter.During)
	if t.out.Verdict == "refused" {
		return t.expectRefusal(ctx, pids)
	}
	var files []string
	if t.alone {
		files = t.patches
	}
	for range s.rounds {
		if err := t.apply(ctx, target, pids, files...); err != nil {
			return err
		}
		if err := t.verify(ctx, pids); err != nil {
			return err
		}
		if err := t.rollback(ctx, target, pids, 0); err != nil {
			return err
		}
		t.out.Rounds++
	}
	// The first time from what the host has, now from the files of build: the
	// result must be the same.
	if err := t.apply(ctx, target, pids, t.patches...); err != nil {
		return err
	}
	if t.out.Later != "" {
		if err := t.goFurther(ctx, target, pids); err != nil {
			return err
		}
	}
	m.Enter(meter.After)
	rest(ctx, s.calm)
	t.countRuns(ctx, pids)
	return t.verify(ctx, pids)
}

func (t *trial) rollback(ctx context.Context, target target, pids []int, to int) error {
	ps, err := t.tool.Rollback(ctx, pids)
	if err := t.settle("rollback", ps, err, "rolled-back"); err != nil {
		return err
	}
	return t.compare(ctx, target, to, "rollback")
}

// buildLater makes the patches that lead from the baseline to the third build.
func (t *trial) buildLater(ctx context.Context, dir string) error {
	for _, module := range t.modules {
		older, err := t.old.find(module)
		if err != nil {
			return err
		}
		newer, err := t.third.find(module)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, module+".later.hotpatch")
		r, err := t.tool.BuildPatch(ctx, older, newer, file)
		if err != nil {
			return err
		}
		if len(r.Modules) != 1 || r.Modules[0].Verdict != "patchable" {
			return fmt.Errorf("the third build of %s: %+v", module, r.Modules)
		}
		t.later = append(t.later, file)
	}
	return nil
}

// goFurther replaces the patches by those to the third build, goes back to the
// ones before, and to the third build again.
func (t *trial) goFurther(ctx context.Context, target target, pids []int) error {
	further := func() error {
		ps, err := t.tool.Apply(ctx, pids, t.later...)
		if err := t.settle("apply of "+t.out.Later, ps, err, "patched"); err != nil {
			return err
		}
		return t.verify(ctx, pids)
	}
	if err := further(); err != nil {
		return err
	}
	if err := t.rollback(ctx, target, pids, 1); err != nil {
		return err
	}
	if err := t.verify(ctx, pids); err != nil {
		return err
	}
	t.patches = t.later // those that are counted
	return further()
}

func (t *trial) apply(ctx context.Context, target target, pids []int, files ...string) error {
	ps, err := t.tool.Apply(ctx, pids, files...)
	if err := t.settle("apply", ps, err, "patched"); err != nil {
		return err
	}
	return t.compare(ctx, target, 1, "apply")
}

// settle records what a command that patches or undoes reported and checks the
// states.
func (t *trial) settle(command string, ps []tool.Process, err error, want string) error {
	var pause float64
	for _, p := range ps {
		t.out.State = p.State
		pause = max(pause, p.PauseUS)
		if command == "apply" {
			t.out.Level = p.Level
		}
	}
	if err != nil {
		return err
	}
	t.out.PausesUS = append(t.out.PausesUS, pause)
	for _, p := range ps {
		if p.State != want || command == "apply" && !p.Verified {
			return fmt.Errorf("%s: process %d is %q, verified %v: %s", command, p.PID, p.State, p.Verified, tool.Explain(p.Reasons))
		}
		t.log("%s: process %d %s, %.0f µs pause", command, p.PID, p.State, p.PauseUS)
	}
	return nil
}

func (t *trial) expectRefusal(ctx context.Context, pids []int) error {
	ps, err := t.tool.Apply(ctx, pids)
	for _, p := range ps {
		t.out.State = p.State
		if p.State != "refused" {
			return fmt.Errorf("build refuses but apply says %q", p.State)
		}
		if len(p.Reasons) == 0 {
			return errors.New("apply refuses without a reason")
		}
	}
	if len(ps) == 0 {
		return err
	}
	return nil
}

// compare checks that the process answers as a build does: 0 is the baseline,
// 1 the fixed one.
func (t *trial) compare(ctx context.Context, target target, build int, after string) error {
	if len(t.out.Answers) == 0 {
		return nil
	}
	got, err := target.ask(ctx)
	if err != nil {
		return fmt.Errorf("ask after %s: %w", after, err)
	}
	t.out.Answers = append(t.out.Answers, got)
	if got != t.out.Answers[build] {
		return fmt.Errorf("after %s the process answers %q, not %q", after, got, t.out.Answers[build])
	}
	t.log("after %s it answers: %s", after, got)
	return nil
}

func (t *trial) verify(ctx context.Context, pids []int) error {
	ps, err := t.tool.Verify(ctx, pids)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.State != "verified" {
			return fmt.Errorf("verify: process %d is %q: %s", p.PID, p.State, p.Findings)
		}
	}
	return nil
}

// countRuns counts how many of the patch's functions the load runs in the
// overlay. That it cannot be counted is no failure of the trial.
func (t *trial) countRuns(ctx context.Context, pids []int) {
	ran, of := map[string]bool{}, 0
	for i, pid := range pids {
		places, err := t.tool.Overlay(ctx, pid, t.patches)
		if err != nil {
			t.out.RanWhy = err.Error()
			return
		}
		var addrs []uint64
		for _, f := range places {
			addrs = append(addrs, f.Addr)
		}
		counts, err := hits.Count(ctx, pid, addrs, func(ctx context.Context) error {
			rest(ctx, 400*time.Millisecond)
			return nil
		})
		if err != nil {
			t.out.RanWhy = err.Error()
			return
		}
		for _, f := range places {
			if counts[f.Addr] > 0 {
				ran[f.Name] = true
			}
		}
		if i == 0 {
			of = len(places)
		}
	}
	t.out.Ran, t.out.RanOf = len(ran), of
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
