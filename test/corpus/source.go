package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hotpatch/internal/diff"
	"hotpatch/test/archive"
)

// source does one source, from fetching to the kept result. Only what makes
// the whole run pointless is an error.
func (b *bench) source(ctx context.Context, name string) error {
	old, fixed, pairs, err := b.index.Pairs(ctx, name)
	if had, rerr := b.store.read(name); err == nil && rerr == nil && !b.fresh &&
		had.Old == old && had.New == fixed && had.Digest == b.digestOf(name) && had.Error == "" {
		return nil
	}
	began := time.Now()
	r := &result{Source: name, Old: old, New: fixed, Digest: b.digestOf(name), When: began}
	dir := filepath.Join(b.dir, name)
	if err == nil {
		err = b.work(ctx, r, pairs, dir)
	}
	if err != nil {
		r.Error = err.Error()
	}
	_ = os.RemoveAll(dir)
	if ctx.Err() != nil {
		return nil // it is redone
	}
	r.Seconds = time.Since(began).Seconds()
	fmt.Println(r.line())
	return b.store.write(r)
}

// line is what is printed of a source while others go on.
func (r *result) line() string {
	n := map[string]int{}
	for _, f := range r.Files {
		n[f.Build.Verdict]++
	}
	s := fmt.Sprintf("%s %s → %s: %d files of %d differ", r.Source, r.Old, r.New, len(r.Files), r.ELFs)
	for _, v := range []string{string(diff.Patchable), string(diff.Unchanged), string(diff.Refused), timedOut, crashed, failed} {
		if n[v] > 0 {
			s += fmt.Sprintf(", %d %s", n[v], v)
		}
	}
	if r.Error != "" {
		s += "; FAILED: " + r.Error
	}
	return s + fmt.Sprintf(" (%.0f s)", r.Seconds)
}

// work does the steps for every file that differs.
func (b *bench) work(ctx context.Context, r *result, pairs []archive.Pair, dir string) error {
	t := &trees{dir: dir, files: map[string]*elfFile{}}

	if err := b.fetch(ctx, r, pairs, t); err != nil {
		return err
	}
	var err error
	if r.Files, r.ELFs, err = t.differing(); err != nil {
		return err
	}
	patch := func(i int) string { return filepath.Join(dir, "patches", fmt.Sprint(i)+".hotpatch") }
	if err := os.MkdirAll(filepath.Dir(patch(0)), 0o755); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	b.each(ctx, r.Files, func(i int, f *file) {
		b.build(ctx, f, patch(i))
		if strings.Contains(b.steps, "check") {
			b.check(ctx, f, patch(i))
		}
	})
	patchable := func(f *file) bool { return f.Build.Verdict == string(diff.Patchable) }
	if !strings.Contains(b.steps, "live") || !slices.ContainsFunc(r.Files, patchable) {
		return nil
	}
	if err := b.needs(ctx, r, pairs, t); err != nil {
		return err
	}
	if err := t.index(); err != nil {
		return err
	}
	scratch := filepath.Join(dir, "scratch")
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	var patches []string
	for i, f := range r.Files {
		if patchable(f) {
			patches = append(patches, patch(i))
		}
	}
	b.each(ctx, r.Files, func(i int, f *file) {
		if patchable(f) {
			b.live(ctx, f, t, patch(i), patches, scratch)
		}
	})
	b.exercise(ctx, r, t, patch)
	return nil
}

// each calls do for every file, as many at a time as there are processors.
func (b *bench) each(ctx context.Context, files []*file, do func(int, *file)) {
	var g errgroup.Group
	for i, f := range files {
		g.Go(func() error {
			b.turn <- struct{}{}
			defer func() { <-b.turn }()
			if ctx.Err() == nil {
				do(i, f)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// fetch unpacks both builds of all packages, each into a folder of its own:
// packages that exclude each other may have the same files.
func (b *bench) fetch(ctx context.Context, r *result, pairs []archive.Pair, t *trees) error {
	var ps []*archive.Package
	for _, p := range pairs {
		r.Packages = append(r.Packages, p.Old.Name)
		r.Fetched += p.Old.Size + p.New.Size
		ps = append(ps, p.Old, p.New)
	}
	debs, err := b.download(ctx, ps, t.dir, os.Rename)
	if err != nil {
		return err
	}
	for i, deb := range debs {
		side := []string{"old", "new"}[i%2]
		if err := archive.Unpack(ctx, deb, t.root(side, ps[i].Name)); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return fmt.Errorf("keep the cache small: %w", err)
		}
	}
	t.packages = r.Packages
	return nil
}

// download puts packages into a source's folder, by a link or by a move from
// the cache: what another source does with the cache does not matter then.
func (b *bench) download(ctx context.Context, ps []*archive.Package, dir string, put func(from, to string) error) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	b.apt <- struct{}{}
	defer func() { <-b.apt }()
	debs, err := b.archive.FetchAll(ctx, ps)
	if err != nil {
		return nil, err
	}
	for i, deb := range debs {
		debs[i] = filepath.Join(dir, filepath.Base(deb))
		if err := put(deb, debs[i]); err != nil {
			return nil, fmt.Errorf("take a package from the cache: %w", err)
		}
	}
	return debs, nil
}

// trees are the unpacked packages of one source in both builds.
type trees struct {
	dir      string
	packages []string
	files    map[string]*elfFile // of the baseline, by package and path, by path, and the same with sonames

	libraries []string // folders for LD_LIBRARY_PATH
	ld        string   // the source's own dynamic loader
	exporters []string // files that may offer symbols to what they load
	once      sync.Once
	exports   map[string][]*elfFile // by symbol
}

func (t *trees) root(side, pkg string) string { return filepath.Join(t.dir, side, pkg) }

// elfFile is a program or library for x86-64.
type elfFile struct {
	at, path string // where it lies, and its name in the package
	id       string // build-id, or the digest of a file without one
	soname   string
	bytes    int64
	program  bool
}

// differing pairs the files of both builds by path, or by soname where a
// file's name carries its version, and gives those whose build-id differs. The
// second value counts the pairs.
func (t *trees) differing() ([]*file, int, error) {
	for _, pkg := range t.packages {
		err := walk(t.root("old", pkg), func(e *elfFile) {
			for _, name := range []string{e.path, e.soname} {
				if name == "" {
					continue
				}
				t.files[pkg+" "+name] = e
				if t.files[name] == nil {
					t.files[name] = e
				}
			}
		})
		if err != nil {
			return nil, 0, err
		}
	}
	var out []*file
	pairs := map[[2]string]bool{}
	for _, pkg := range t.packages {
		err := walk(t.root("new", pkg), func(e *elfFile) {
			var old *elfFile
			for _, key := range []string{pkg + " " + e.path, pkg + " " + e.soname, e.path, e.soname} {
				if old = t.files[key]; old != nil && key != "" {
					break
				}
			}
			if old == nil || pairs[[2]string{old.id, e.id}] {
				return // of the same two builds in two packages one is done
			}
			pairs[[2]string{old.id, e.id}] = true
			if old.id == e.id {
				return
			}
			out = append(out, &file{
				Package: pkg, Path: e.path, Program: e.program, Bytes: old.bytes + e.bytes, old: old.at, new: e.at,
			})
		})
		if err != nil {
			return nil, 0, err
		}
	}
	slices.SortFunc(out, func(x, y *file) int { return strings.Compare(x.Package+" "+x.Path, y.Package+" "+y.Path) })
	return out, len(pairs), nil
}

// walk calls each with the programs and libraries below root.
func walk(root string, each func(*elfFile)) error {
	return filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		e, err := readELF(at)
		if e != nil {
			rel, rerr := filepath.Rel(root, at)
			if rerr != nil {
				return rerr
			}
			e.path = "/" + rel
			if e.soname != "" {
				e.soname = path.Join(path.Dir(e.path), e.soname)
			}
			each(e)
		}
		return err
	})
}

// readELF is nil for what is no linked x86-64 program or library.
func readELF(at string) (*elfFile, error) {
	f, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if n, _ := f.Read(magic); n < 4 || !bytes.Equal(magic, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	e := &elfFile{at: at, bytes: st.Size()}
	o, err := elf.NewFile(f)
	if err != nil {
		return nil, nil // no ELF file after all; the builder has tests of its own for those
	}
	text := o.Section(".text")
	if o.Machine != elf.EM_X86_64 || o.Class != elf.ELFCLASS64 || o.Type != elf.ET_DYN && o.Type != elf.ET_EXEC || text != nil && text.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if names, err := o.DynString(elf.DT_SONAME); err == nil && len(names) == 1 {
		e.soname = names[0]
	}
	e.program = o.Type == elf.ET_EXEC || isProgram(o)
	e.id, err = identity(o, f)
	return e, err
}
