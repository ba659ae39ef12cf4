package engine

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// Engine changes processes. Several transactions may be under way, each in its
// goroutine: one has its turn, and the others wait or sleep.
type Engine struct {
	opts   Options
	store  *Store
	cache  *process.Cache
	report func(Event)

	turn  sync.Mutex
	files map[string]*patch.Patch // by name
	heap  uint64                  // bytes; beyond it garbage is collected
	crowd bool                    // too many processes to keep out of the way of each

	cancelled atomic.Bool // transactions that wait are given up

	inFiles bool // tests have code mapped as where anonymous memory for it is forbidden
}

// New opens the store. report may be nil.
func New(opts Options, report func(Event)) (*Engine, error) {
	opts = opts.withDefaults()
	s, err := OpenStore(opts.Store)
	if err != nil {
		return nil, err
	}
	if report == nil {
		report = func(Event) {}
	}
	return &Engine{opts: opts, store: s, cache: process.NewCache(), report: report, files: make(map[string]*patch.Patch)}, nil
}

// Beside returns an engine that may be used beside this one, and shares what
// this one keeps and its turns to trace.
func (e *Engine) Beside() *Engine {
	return &Engine{opts: e.opts, store: e.store, cache: e.cache, report: e.report, files: make(map[string]*patch.Patch)}
}

// Store is the host's record.
func (e *Engine) Store() *Store { return e.store }

// txn is one transaction in one process.
type txn struct {
	*Engine
	p       *process.Process
	look    bool                  // nothing is to be changed
	locks   map[process.ID]func() // that are held, and how they are let go
	rec     *Record
	res     *Result
	maps    []process.Mapping
	mods    []process.Module
	linked  []loaded
	walker  *process.Unwinder
	gadgets process.Gadgets
	units   []*unit       // coming
	going   []*unit       // leaving, or replaced
	finder  *FinderRecord // to be put in with this transaction
	made    []process.Range
	unsent  bool // a thread could not be sent: they are borrowed
	edits   []edit
	written []edit          // of the edits, and what the level strict adds
	stacks  []process.Range // the threads' own, when the entries were changed
	unwound bool            // all of them were walked to their base then
}

// step is a state of a transaction and how it is undone.
type step struct {
	name     string
	do, undo func() error
}

// run takes the steps in order. When one fails, it and those before it are
// undone in reverse order.
func (t *txn) run(steps []step) error {
	for i, s := range steps {
		t.tell(s.name)
		_, err := t.meet()
		if err == nil {
			err = s.do()
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s: %w", s.name, err)
		for ; i >= 0; i-- {
			if steps[i].undo == nil {
				continue
			}
			t.tell("undo " + steps[i].name)
			if e := steps[i].undo(); e != nil && !errors.Is(e, process.ErrExited) {
				return errors.Join(err, fmt.Errorf("undo %s: %w", steps[i].name, e))
			}
		}
		return err
	}
	return nil
}

// begin opens the process, takes its lock, reads its record and finishes what
// an earlier run left.
// Unless it is only to look, the engine keeps out of the way of the process.
func (e *Engine) begin(id process.ID, look bool, res *Result) (t *txn, end func(), err error) {
	res.ID = id
	e.turn.Lock()
	defer func() {
		if err != nil {
			e.turn.Unlock()
		}
	}()
	p, err := process.Open(id.Pid, e.cache)
	if err != nil {
		return nil, nil, err
	}
	if id.Start != 0 && p.Start != id.Start {
		p.Close()
		return nil, nil, process.ErrExited
	}
	res.ID = p.ID
	if !e.crowd && !look {
		p.KeepOff()
	}
	t = &txn{Engine: e, p: p, res: res, look: look, locks: make(map[process.ID]func())}
	if err = p.Meet(); err == nil {
		res.Sharing = p.Sharing()
		err = t.lock()
	}
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	if err = t.survey(); err == nil {
		if err = t.load(); err == nil {
			res.Program = Name(strings.TrimSuffix(t.rec.Program, " (deleted)"))
			err = t.recover()
		}
		if err == nil {
			// What cannot be cleared away now is no hindrance.
			if e := t.leave(); errors.Is(e, process.ErrExited) {
				err = e
			}
		}
	}
	if err != nil {
		t.unlock()
		p.Close()
		return nil, nil, err
	}
	return t, func() { t.unlock(); p.Close(); e.tidy(); e.turn.Unlock() }, nil
}

// sleep lets other transactions go on meanwhile.
func (e *Engine) sleep(d time.Duration) {
	e.tidy()
	e.turn.Unlock()
	time.Sleep(d)
	e.turn.Lock()
}

// tidy collects garbage while nothing is held, where nobody else does.
func (e *Engine) tidy() {
	const room = 32 << 20 // bytes
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	if metrics.Read(s); s[0].Value.Uint64() > max(room, e.heap) {
		runtime.GC()
		metrics.Read(s)
		e.heap = s[0].Value.Uint64() + room
	}
}

// maxModules are the programs and libraries that one process may have mapped,
// several times as many as any that is known.
const maxModules = 4096

// survey reads what is mapped.
func (t *txn) survey() (err error) {
	if t.maps, err = t.p.Maps(); err != nil {
		return err
	}
	t.mods = t.p.ModulesOf(t.maps)
	t.linked = nil
	if len(t.mods) > maxModules {
		return fmt.Errorf("%d modules: %w", len(t.mods), process.ErrTooLarge)
	}
	return nil
}

func (t *txn) order() []loaded {
	if t.linked == nil {
		t.linked = linked(t.p, t.mods)
	}
	return t.linked
}

// Apply puts patches into a process, all or none.
func (e *Engine) Apply(pid int, patches []*patch.Patch) Result {
	return e.applyTo(process.ID{Pid: pid}, patches)
}

func (e *Engine) applyTo(id process.ID, patches []*patch.Patch) (res Result) {
	t, end, err := e.enter(id, false, &res)
	if err == nil {
		defer end()
		if err = t.again(func() error { return t.apply(patches) }); err == nil {
			err = t.stayed()
		}
	}
	if err != nil {
		res.fail(t.why(err))
		res.Patches = nil
		for _, p := range patches {
			res.Patches = append(res.Patches, p.ID)
		}
	}
	e.store.note(&res)
	return res
}

// errTaken says that the program itself took the place that was chosen.
var errTaken = errors.New("the place is taken")

// again carries out a transaction, once more when the program took the place
// that was chosen.
func (t *txn) again(do func() error) error {
	const tries = 10 // a program that starts threads maps stacks all the time
	for try := 1; ; try++ {
		err := do()
		if try == tries || !errors.Is(err, errTaken) {
			return err
		}
		t.units, t.going, t.finder, t.made = nil, nil, nil, nil
		if err := t.survey(); err != nil {
			return err
		}
	}
}

func (t *txn) apply(patches []*patch.Patch) error {
	t.choose(patches)
	if len(t.units) == 0 {
		t.res.State = Already
		t.noteUnlike()
		return t.verify()
	}
	if err := t.exchange(); err != nil {
		return err
	}
	t.res.State = Patched
	for _, u := range t.units {
		if !slices.Contains(t.res.Patches, u.patch.ID) {
			t.res.Patches = append(t.res.Patches, u.patch.ID)
		}
		t.res.Functions += len(u.patch.Steers)
	}
	return nil
}

// exchange takes what is in t.going out and puts what is in t.units in, in one
// stop.
func (t *txn) exchange() error {
	before := *t.rec
	defer func() { t.store.release(t.rec) }()
	err := t.run([]step{
		{"match", t.match, nil},
		{"place", t.place, nil},
		{"reserve", t.reserve, func() error { *t.rec = before; return nil }},
		{"record intent", func() error { return t.store.Save(t.rec) }, func() error { *t.rec = before; return t.resettle() }},
		{"map", t.mapAll, t.unmapMade},
		{"write", t.writeAll, t.forgetFinder},
		{"restore bodies", t.restoreBodies, func() error { return t.retireAgain(t.going) }},
		{"commit", t.commit, nil},
		{"verify", t.verifyChange, t.back},
		{"record", t.recordDone, nil},
	})
	if err != nil {
		return err
	}
	t.res.Verified = true
	if len(t.going) > 0 {
		t.tell("clear out")
	}
	err = t.harden()
	if err == nil {
		err = t.clearOut(t.res.Level == Strict)
	}
	if err == nil {
		return nil
	}
	if err = t.why(err); errors.Is(err, process.ErrExited) {
		return err
	}
	// The change is in force all the same; the next run goes on from here.
	failed := Result{ID: t.p.ID}
	failed.fail(err)
	t.res.Reasons = append(t.res.Reasons, failed.Reasons...)
	return nil
}

// choose leaves out what is there already, in each module that it is for.
func (t *txn) choose(patches []*patch.Patch) {
	for _, pt := range patches {
		if i := slices.IndexFunc(t.rec.Units, func(u UnitRecord) bool { return u.Patch == pt.ID }); i >= 0 && t.everywhere(pt) {
			t.res.Patches = append(t.res.Patches, pt.ID)
			t.res.Level = t.rec.Units[i].Level
			continue
		}
		t.units = append(t.units, &unit{patch: pt})
	}
	if len(t.units) > 0 {
		t.res.Patches = nil
	}
}

// match finds the modules of what comes, and which patches it replaces.
func (t *txn) match() (err error) {
	// rt_sigreturn(2) finds no token on a shadow stack (Linux 6.6) that no signal was delivered on.
	if st, err := t.p.Status(0); err != nil || st.ShadowStack {
		return errors.Join(err, &Reason{Code: Kernel, Detail: "it has a user shadow stack: a thread that makes a call for us would not find back"})
	}
	if t.gadgets, err = t.p.FindGadgets(t.maps); err != nil {
		return &Reason{Code: NoThread, Detail: err.Error()}
	}
	if err := t.spread(); err != nil {
		return err
	}
	for i, u := range t.units {
		for _, o := range t.units[:i] {
			if o.mod.Bias == u.mod.Bias {
				return &Reason{Code: Conflict, Module: u.patch.Module, Detail: "two patches for one module"}
			}
		}
		for j := range t.rec.Units {
			if r := &t.rec.Units[j]; r.Bias == u.mod.Bias {
				if u.prev, err = t.unitOf(r); err != nil {
					return err
				}
				t.going = append(t.going, u.prev)
			}
		}
		if err := checkOld(t.p, u); err != nil {
			return err
		}
	}
	for _, u := range t.going {
		if err := needed(&u.rec, t.staying()); err != nil {
			return err
		}
	}
	return nil
}

// staying are the patches on record that the transaction leaves alone.
func (t *txn) staying() []UnitRecord {
	return slices.DeleteFunc(slices.Clone(t.rec.Units), func(r UnitRecord) bool {
		return slices.ContainsFunc(t.going, func(u *unit) bool { return u.rec.Bias == r.Bias })
	})
}

// place finds room for every overlay, and makes the overlays for it.
func (t *txn) place() error {
	maps := slices.Clone(t.maps)
	find := func(m *process.Module, size process.Addr, slow func(process.Addr) bool) (process.Range, error) {
		a, ok := place(maps, m, size, slow)
		if !ok {
			return process.Range{}, &Reason{Code: NoGap, Module: m.Name(), Detail: fmt.Sprintf("no room for %d bytes within 2 GiB", size)}
		}
		r := process.Range{Start: a, End: a + size}
		i, _ := slices.BinarySearchFunc(maps, a, func(m process.Mapping, a process.Addr) int {
			if m.Start < a {
				return -1
			}
			return 1
		})
		maps = slices.Insert(maps, i, process.Mapping{Range: r})
		return r, nil
	}
	for _, u := range t.units {
		span := u.patch.Span()
		room, err := find(&u.mod, process.Addr(span.Len())+page, u.aliased)
		if err != nil {
			return err
		}
		u.room, u.over = room, room.Start-process.Addr(span.Start)
		if u.prev != nil {
			if err := u.replaces(u.prev); err != nil {
				return err
			}
		}
	}
	others := append(slices.Clone(t.units), t.unitsOf(t.staying())...)
	for _, u := range t.units {
		if err := u.resolveAll(t.p, visible(t.order(), u.mod.Bias), others); err != nil {
			return err
		}
		if err := u.relocate(); err != nil {
			return err
		}
	}
	return t.placeFinder(find)
}

// placeFinder prepares the finder unless there is one, or no need of one.
func (t *txn) placeFinder(find func(*process.Module, process.Addr, func(process.Addr) bool) (process.Range, error)) error {
	t.res.Unwind = "none"
	if !slices.ContainsFunc(t.units, func(u *unit) bool { return u.patch.EHFrameHdr != 0 }) {
		return nil
	}
	mods := visibleIn(t.order(), 0)
	m, sym := findFinder(t.p, mods)
	for _, u := range t.units { // another namespace has a C library of its own
		if seen := visible(t.order(), u.mod.Bias); m == nil || !slices.ContainsFunc(seen, func(o loaded) bool { return o.Bias == m.Bias }) {
			if err := unwindable(seen); err != nil {
				return err
			}
		}
	}
	if m == nil {
		return nil
	}
	t.res.Unwind = "dl_find_object"
	if t.rec.Finder != nil {
		t.finder = t.rec.Finder
		if t.finder.Mapped { // by an earlier patch
			return t.finder.intact(t.p)
		}
		return nil
	}
	room, err := find(m.Module, page, nil)
	if err != nil {
		return err
	}
	t.finder, err = makeFinder(t.p, m, sym, room.Start)
	if err == nil && t.finder.Active {
		err = &Reason{Code: Conflict, Function: finderName, Detail: "steered by a patch that is not on record"}
	}
	return err
}

// unwindable refuses modules among which exceptions are thrown and would end in
// new code, because the C library cannot be told of its unwind tables.
func unwindable(mods []loaded) error {
	for i := range mods {
		name := mods[i].Name()
		if strings.HasPrefix(name, "libgcc_s.") || strings.HasPrefix(name, "libunwind.") || strings.HasPrefix(name, "libstdc++.") {
			return &Reason{Code: NoUnwind, Module: name, Detail: "exceptions cannot cross new code: its C library cannot be told (glibc 2.35: _dl_find_object)"}
		}
	}
	return nil
}

// reserve describes what is about to be done, and keeps room to write it down.
func (t *txn) reserve() error {
	t.rec.Units, t.rec.Going, t.rec.Pending, t.rec.Phase = t.staying(), nil, nil, Intent
	for _, u := range t.going {
		t.rec.Going = append(t.rec.Going, u.rec)
	}
	for _, u := range t.units {
		u.rec.Patch, u.rec.Path, u.rec.Bias, u.rec.Overlay = u.patch.ID, u.mod.Path, u.mod.Bias, u.over
		u.rec.Start, u.rec.End, u.rec.Imports, u.rec.Held, u.rec.Time = u.room.Start, u.room.End, u.imports, u.held, time.Now().UTC()
		u.rec.Steers = u.steers()
		if p := u.prev; p != nil && !u.again {
			u.rec.Replaced = append(slices.Clone(p.rec.Replaced), p.rec.Patch)
		}
		t.rec.Pending = append(t.rec.Pending, u.rec)
		if err := t.store.SavePatch(u.patch); err != nil {
			return err
		}
	}
	var err error
	if t.edits, err = t.changes(); err != nil {
		return err
	}
	if t.finder != nil {
		t.rec.Finder = t.finder
		if !t.finder.Active {
			t.edits = append(t.edits, t.finder.edit())
		}
	}
	return t.store.reserve(t.rec)
}

// changes are the edits that take what goes out and put what comes in.
func (t *txn) changes() ([]edit, error) {
	var out []edit
	replaced := func(u *unit) bool { return slices.ContainsFunc(t.units, func(c *unit) bool { return c.prev == u }) }
	for _, u := range t.going {
		for _, s := range u.rec.Steers {
			if !replaced(u) {
				out = append(out, edit{at: s.At, old: s.New, new: s.Old, name: s.Name, module: u.patch.Module})
			}
		}
	}
	for _, u := range t.units {
		es, err := u.edits()
		if err != nil {
			return nil, err
		}
		out = append(out, es...)
	}
	return out, nil
}

// resettle is settle for a record of before: others may share the memory by now.
func (t *txn) resettle() error {
	if _, err := t.meet(); err != nil {
		return err
	}
	return t.settle()
}

// settle saves the record, or removes one that says nothing.
func (t *txn) settle() error {
	if len(t.rec.Units)+len(t.rec.Pending)+len(t.rec.Going)+len(t.rec.Stays) == 0 && t.rec.Finder == nil && t.rec.Left == 0 {
		for _, id := range t.rec.of() {
			t.store.Drop(id)
		}
		return nil
	}
	t.rec.Phase = Done
	return t.keep()
}

// keep saves what was found out, or done again. Whoever only looks does without
// where there is no room.
func (t *txn) keep() error {
	err := t.store.Save(t.rec)
	if t.look && isFull(err) {
		return nil
	}
	return err
}

// recordDone writes down that the entries are changed.
func (t *txn) recordDone() error {
	for _, r := range t.rec.Pending {
		r.Level, r.Draining = t.res.Level, t.res.Level == Entry
		t.rec.Units = append(t.rec.Units, r)
	}
	t.rec.Pending, t.rec.Phase = nil, Clearing
	if f := t.rec.Finder; f != nil {
		f.Active = t.finder != nil || f.Active && !slices.ContainsFunc(t.written, func(e edit) bool { return e.at == f.Steer.At })
	}
	return t.store.Save(t.rec)
}
