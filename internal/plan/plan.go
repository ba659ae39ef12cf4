// Package plan decides what has to be done: which modules of which processes
// need which patches. It builds a patch once for all processes that run the
// same two builds. Carrying it out is the engine's matter.
package plan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"hotpatch/internal/debuginfo"
	"hotpatch/internal/diff"
	"hotpatch/internal/host"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// A Build is the outcome of comparing two builds of one module.
type Build struct {
	Module         string
	Verdict        diff.Verdict
	Reasons        []diff.Reason
	Patch          *patch.Patch // nil unless patchable
	Changed, Added int          // functions
	Omitted        []patch.Omission
	Remarks        []diff.Remark
	Typed          bool // types were compared by debug information
}

// Pair compares two builds, given as the bytes of their files, and makes the
// patch. What cannot be read as a program is refused, not an error.
func Pair(oldData, newData []byte, oldPath, newPath, tool string) (*Build, error) {
	return pair(oldData, newData, oldPath, newPath, tool, debuginfo.Usual())
}

func pair(oldData, newData []byte, oldPath, newPath, tool string, places debuginfo.Places) (*Build, error) {
	var ms [2]*module.Module
	for i, f := range []struct {
		data []byte
		path string
	}{{oldData, oldPath}, {newData, newPath}} {
		m, err := module.NewApart(f.data, f.path, func(m *module.Module) []byte { return places.Apart(context.Background(), m) })
		if errors.Is(err, module.ErrUnsupported) {
			return refused(f.path, diff.Reason{Code: diff.UnsupportedModule, Name: f.path, Detail: err.Error()}), nil
		}
		if err != nil {
			return nil, err
		}
		ms[i] = m
	}
	r, err := diff.CompareTypes(ms[0], ms[1], func() (old, new *debuginfo.Info, err error) { return types(places, ms[0], ms[1]) })
	if err != nil {
		return nil, err
	}
	b := &Build{Module: r.New.Name, Verdict: r.Verdict, Reasons: r.Reasons, Remarks: r.Remarks, Typed: r.Typed}
	for _, o := range r.Omissions {
		b.Omitted = append(b.Omitted, patch.Omission{Name: o.Func.Name, Reason: o.Reason, Detail: o.Detail})
	}
	for _, c := range r.Changes {
		if c.Old == nil {
			b.Added++
		} else {
			b.Changed++
		}
	}
	if r.Verdict != diff.Patchable {
		return b, nil
	}
	if b.Patch, b.Reasons, err = patch.Build(r, tool); err != nil {
		return nil, err
	}
	if b.Patch == nil {
		b.Verdict = diff.Refused
	}
	return b, nil
}

// types finds the debug information of two builds. A server is asked for the
// fixed build's only when there is some for the baseline.
func types(p debuginfo.Places, old, new *module.Module) (a, b *debuginfo.Info, err error) {
	if a, err = p.Find(context.Background(), old); err == nil {
		b, err = p.Find(context.Background(), new)
	}
	return a, b, err
}

func refused(name string, r diff.Reason) *Build {
	return &Build{Module: name, Verdict: diff.Refused, Reasons: []diff.Reason{r}}
}

// An Update is what one source package changed in one process. Its modules
// are patched together or not at all.
type Update struct {
	Source  string // source package, empty when no package manager knows the files
	Modules []*host.Module
	Builds  []*Build // of Modules, in their order
	Err     error    // a file could not be opened or read
}

// Patches are the patches of the update; ok is false when a module of it is refused.
func (u *Update) Patches() (ps []*patch.Patch, ok bool) {
	if u.Err != nil {
		return nil, false
	}
	for _, b := range u.Builds {
		if b.Verdict == diff.Refused {
			return nil, false
		}
		if b.Patch != nil {
			ps = append(ps, b.Patch)
		}
	}
	return ps, true
}

// Need is what one process needs.
type Need struct {
	Proc    *host.Proc
	Updates []*Update
}

// Planner builds patches and remembers them.
type Planner struct {
	Tool string // version of the program, for the patch file

	mu     sync.Mutex
	builds map[host.Pair]*job
}

type job struct {
	sync.Mutex
	build *Build // nil: not yet
}

// Plan works out what every process with outdated modules needs. It calls
// progress, which may be nil, with each module that it starts to build.
func (p *Planner) Plan(ctx context.Context, procs []host.Proc, progress func(module string)) ([]Need, error) {
	var needs []Need
	for i := range procs {
		if n := group(&procs[i]); len(n.Updates) > 0 {
			needs = append(needs, n)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, n := range needs {
		for _, u := range n.Updates {
			g.Go(func() error {
				for _, m := range u.Modules {
					if err := ctx.Err(); err != nil {
						return err
					}
					b, err := p.build(n.Proc, m, progress)
					if err != nil {
						u.Err = err
						return nil
					}
					u.Builds = append(u.Builds, b)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return needs, nil
}

// group sorts the outdated modules of a process by the source package that
// replaced them. Files that no package owns count as one update: halves of it
// could not be told apart.
func group(proc *host.Proc) Need {
	n := Need{Proc: proc}
	by := make(map[string]*Update)
	for i := range proc.Modules {
		m := &proc.Modules[i]
		if m.State != host.Outdated {
			continue
		}
		u := by[m.Package.Source]
		if u == nil {
			u = &Update{Source: m.Package.Source}
			by[m.Package.Source] = u
			n.Updates = append(n.Updates, u)
		}
		u.Modules = append(u.Modules, m)
	}
	return n
}

func (p *Planner) build(proc *host.Proc, m *host.Module, progress func(string)) (*Build, error) {
	p.mu.Lock()
	if p.builds == nil {
		p.builds = make(map[host.Pair]*job)
	}
	k := proc.Pair(m)
	j := p.builds[k]
	if j == nil {
		j = &job{}
		p.builds[k] = j
	}
	p.mu.Unlock()
	j.Lock()
	defer j.Unlock()
	if j.build != nil {
		return j.build, nil
	}
	if progress != nil {
		progress(m.Path)
	}
	var files [2][]byte
	for i, open := range []func(*host.Proc, *host.Module) (*os.File, error){host.Running, host.Fixed} {
		f, err := open(proc, m)
		if err == nil {
			files[i], err = readAll(f)
		}
		if err != nil { // the next process may have more luck
			return nil, fmt.Errorf("read %s of process %d: %w", m.Path, proc.PID, err)
		}
	}
	places := debuginfo.Usual()
	places.Open = func(path string) (*os.File, error) { return host.Beside(proc, m, path) }
	b, err := pair(files[0], files[1], m.Path, m.OnDisk, p.Tool, places)
	if err == nil && b.Patch != nil && (b.Patch.Baseline != m.Running || b.Patch.Fixed != m.Fixed) {
		err = &host.ChangedError{PID: proc.PID, What: m.Path + " became another build"}
	}
	if err != nil {
		return nil, err
	}
	j.build = b
	return b, nil
}
