package main

import (
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hotpatch/internal/diff"
	"hotpatch/test/archive"
)

// The most that is fetched so that the programs of one source can start, and
// the most of it that is kept for other sources, in bytes.
const (
	mostNeeded = 1500 << 20
	mostKept   = 3 << 30
)

// needs fetches and unpacks what the packages of the patchable files depend on
// and the machine lacks, up to mostNeeded.
func (b *bench) needs(ctx context.Context, r *result, pairs []archive.Pair, t *trees) error {
	wanted := map[string]bool{}
	for _, f := range r.Files {
		if f.Build.Verdict == string(diff.Patchable) {
			wanted[f.Package] = true
		}
	}
	for _, w := range workloadsOf(r.Source) {
		for _, pkg := range r.Packages {
			if _, err := os.Stat(t.root("old", pkg) + w.program); err == nil {
				wanted[pkg] = true
			}
		}
	}
	own, seen := map[string]*archive.Package{}, map[string]bool{}
	var queue, get []*archive.Package
	for _, p := range pairs {
		own[p.Old.Name] = p.Old // is here already; what it needs is not
		if wanted[p.Old.Name] {
			seen[p.Old.Name] = true
			queue = append(queue, p.Old)
		}
	}
	total := int64(0)
	for _, w := range workloadsOf(r.Source) {
		for name := range strings.FieldsSeq(w.needs) {
			if p := b.index.Newest(name); p != nil && !seen[name] {
				seen[name] = true
				total += p.Size
				queue, get = append(queue, p), append(get, p)
			}
		}
	}
	for depth := 0; len(queue) > 0; depth++ {
		var next []*archive.Package
		for _, p := range queue {
			for _, name := range archive.Lacking(ctx, p.Depends) {
				d := cmp.Or(own[name], b.index.Newest(name))
				if d == nil || seen[d.Name] || depth > 0 && !supports(d.Name) {
					continue
				}
				seen[d.Name] = true
				if own[d.Name] == nil && d.Architecture == "amd64" && total+d.Size < mostNeeded {
					total += d.Size
					get = append(get, d)
				}
				next = append(next, d)
			}
		}
		queue = next
	}
	debs, err := b.download(ctx, get, t.dir, os.Link)
	if err != nil {
		return err
	}
	for i, deb := range debs {
		if err := archive.Unpack(ctx, deb, t.root("needed", get[i].Name)); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return fmt.Errorf("keep the source's folder small: %w", err)
		}
	}
	return b.trim()
}

// supports says whether something that is needed indirectly helps a program to
// be loaded: libraries, and the interpreters that extensions are for.
func supports(name string) bool {
	for _, prefix := range []string{"zlib1g", "python3", "perl", "ruby", "postgresql", "apache2", "nginx"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return strings.Contains(name, "lib")
}

// trim removes the packages that were fetched longest ago.
func (b *bench) trim() error {
	b.apt <- struct{}{}
	defer func() { <-b.apt }()
	entries, err := os.ReadDir(filepath.Join(b.cache, "debs"))
	if err != nil {
		return err
	}
	var infos []fs.FileInfo
	total := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".deb") {
			infos = append(infos, info)
			total += info.Size()
		}
	}
	slices.SortFunc(infos, func(x, y fs.FileInfo) int { return x.ModTime().Compare(y.ModTime()) })
	for _, info := range infos {
		if total <= mostKept {
			break
		}
		total -= info.Size()
		_ = os.Remove(filepath.Join(b.cache, "debs", info.Name()))
	}
	return nil
}

// index finds, once all is unpacked, the folders of libraries, who may export
// symbols, and the loader of the source when it has one.
func (t *trees) index() error {
	dirs := map[string]bool{}
	for _, side := range []string{"old", "needed"} {
		var folders []string
		err := filepath.WalkDir(filepath.Join(t.dir, side), func(at string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if os.IsNotExist(err) {
					return nil
				}
				return err
			}
			name, dir := d.Name(), filepath.Dir(at)
			library := strings.Contains(name, ".so")
			if library && strings.HasPrefix(name, "lib") && !dirs[dir] {
				dirs[dir] = true
				folders = append(folders, dir)
			}
			if strings.HasPrefix(name, "ld-linux-x86-64.so") && d.Type().IsRegular() && side == "old" {
				t.ld = at
			}
			info, err := d.Info()
			if err == nil && d.Type().IsRegular() && (library || info.Mode()&0o111 != 0) {
				t.exporters = append(t.exporters, at)
			}
			return err
		})
		if err != nil {
			return err
		}
		// The system's folders before those of single programs.
		slices.SortStableFunc(folders, func(x, y string) int { return strings.Count(x, "/") - strings.Count(y, "/") })
		t.libraries = append(t.libraries, folders...)
	}
	for _, pattern := range []string{"perl", "python3*", "ruby*"} {
		found, err := filepath.Glob(filepath.Join("/usr/bin", pattern))
		if err != nil {
			return err
		}
		t.exporters = append(t.exporters, found...)
	}
	return nil
}

// exporter is who offers a symbol, nil when nobody does: of several the one
// that offers most of wanted, a program before a library.
func (t *trees) exporter(symbol string, wanted []string) *elfFile {
	t.once.Do(func() {
		t.exports = map[string][]*elfFile{}
		for _, at := range t.exporters {
			t.addExports(at)
		}
	})
	offers := map[*elfFile]int{}
	for _, w := range wanted {
		for _, e := range t.exports[w] {
			offers[e]++
		}
	}
	var best *elfFile
	for _, e := range t.exports[symbol] {
		if best == nil || offers[e] > offers[best] || offers[e] == offers[best] && e.program && !best.program {
			best = e
		}
	}
	return best
}

func (t *trees) addExports(at string) {
	e, err := readELF(at)
	if err != nil || e == nil {
		return
	}
	for _, name := range dynamicSymbols(at, func(s elf.Symbol) bool { return s.Section != elf.SHN_UNDEF }) {
		t.exports[name] = append(t.exports[name], e)
	}
}

// dynamicSymbols are the names of the symbols of a file that are wanted.
func dynamicSymbols(at string, wanted func(elf.Symbol) bool) []string {
	o, err := elf.Open(at)
	if err != nil {
		return nil
	}
	defer o.Close()
	symbols, err := o.DynamicSymbols()
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range symbols {
		if wanted(s) {
			out = append(out, s.Name)
		}
	}
	return out
}
