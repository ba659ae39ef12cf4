package engine

import (
	"errors"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// everywhere reports whether no module lacks a patch that is on record.
func (t *txn) everywhere(pt *patch.Patch) bool {
	lacking, err := t.without(pt)
	return err != nil || len(lacking) == 0
}

// without are the modules that a patch is for and that do not have it.
func (t *txn) without(pt *patch.Patch) ([]process.Module, error) {
	found, err := match(t.p, t.mods, t.order(), pt)
	return slices.DeleteFunc(found, func(m process.Module) bool {
		return slices.ContainsFunc(t.rec.Units, func(r UnitRecord) bool { return r.Patch == pt.ID && r.Bias == m.Bias })
	}), err
}

// spread makes a unit of each module that a patch is for.
func (t *txn) spread() error {
	var out []*unit
	for _, u := range t.units {
		if u.again { // it knows its module
			out = append(out, u)
			continue
		}
		mods, err := t.without(u.patch)
		if err != nil {
			return err
		}
		for _, m := range mods {
			out = append(out, &unit{patch: u.patch, mod: m})
		}
	}
	t.units = out
	return nil
}

// why tells what was behind an error: that the process is no more, or that
// memory could not be reached since the program has unloaded the module.
func (t *txn) why(err error) error {
	if t != nil && !t.p.Alive() {
		return process.ErrExited
	}
	if t == nil || !errors.Is(err, unix.EIO) || t.survey() != nil {
		return err
	}
	for _, r := range slices.Concat(t.rec.Units, t.rec.Pending, t.rec.Going) {
		if t.moduleOf(&r) == nil {
			return &Reason{Code: NoModule, Module: path.Base(r.Path), Detail: "the program unloaded it meanwhile"}
		}
	}
	for _, u := range t.units {
		if !slices.ContainsFunc(t.mods, func(m process.Module) bool { return m.Bias == u.mod.Bias }) {
			return &Reason{Code: NoModule, Module: u.patch.Module, Detail: "the program unloaded it meanwhile"}
		}
	}
	return err
}
