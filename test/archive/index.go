package archive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hotpatch/internal/deb"
)

// Package is one build of a binary package that the archive serves.
type Package struct {
	Name, Version, Architecture string
	Source, SourceVersion       string
	Depends                     string // Pre-Depends and Depends
	Provides                    []string
	Size                        int64 // bytes of the .deb
	Debug                       bool  // detached debug information, no programs
}

// File is how apt names the package's file.
func (p *Package) File() string {
	return p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_" + p.Architecture + ".deb"
}

// Index is what the archive serves, in all versions.
type Index struct {
	byName   map[string][]*Package // versions ascend
	bySource map[string][]*Package
	provided map[string][]string
}

// Index reads the lists that apt has of the archive.
func (a *Archive) Index(ctx context.Context) (*Index, error) {
	out, err := a.apt(ctx, "", "apt-get", "indextargets", "--format", "$(FILENAME)", "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	ix := &Index{byName: map[string][]*Package{}, bySource: map[string][]*Package{}, provided: map[string][]string{}}
	for name := range strings.FieldsSeq(out) {
		text, err := exec.CommandContext(ctx, "/usr/lib/apt/apt-helper", "cat-file", name).Output()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		ix.read(text)
	}
	if len(ix.byName) == 0 {
		return nil, fmt.Errorf("the archive's index in %s is empty", a.dir)
	}
	for _, ps := range ix.byName {
		if len(ps) > 1 {
			sortVersions(ctx, ps)
		}
	}
	return ix, nil
}

func (ix *Index) read(text []byte) {
	for paragraph := range bytes.SplitSeq(text, []byte("\n\n")) {
		p := &Package{}
		var source, section, pre string
		for line := range strings.Lines(string(paragraph)) {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch name {
			case "Package":
				p.Name = value
			case "Version":
				p.Version = value
			case "Architecture":
				p.Architecture = value
			case "Source":
				source = value
			case "Section":
				section = value
			case "Depends":
				p.Depends = value
			case "Pre-Depends":
				pre = value
			case "Size":
				p.Size, _ = strconv.ParseInt(value, 10, 64)
			case "Provides":
				for v := range strings.SplitSeq(value, ",") {
					v, _, _ = strings.Cut(strings.TrimSpace(v), " ")
					p.Provides = append(p.Provides, v)
				}
			}
		}
		if p.Name == "" {
			continue
		}
		p.Depends = strings.Trim(pre+", "+p.Depends, ", ")
		p.Source, p.SourceVersion = deb.SplitSource(source, p.Name, p.Version)
		p.Debug = section == "debug" || strings.HasSuffix(p.Name, "-dbg") || strings.HasSuffix(p.Name, "-dbgsym")
		ix.byName[p.Name] = append(ix.byName[p.Name], p)
		ix.bySource[p.Source] = append(ix.bySource[p.Source], p)
		for _, v := range p.Provides {
			ix.provided[v] = append(ix.provided[v], p.Name)
		}
	}
}

func sortVersions(ctx context.Context, ps []*Package) {
	slices.SortStableFunc(ps, func(x, y *Package) int { return CompareVersions(ctx, x.Version, y.Version) })
}

// CompareVersions orders two versions as dpkg does.
func CompareVersions(ctx context.Context, x, y string) int {
	switch {
	case x == y:
		return 0
	case exec.CommandContext(ctx, "dpkg", "--compare-versions", x, "lt", y).Run() == nil:
		return -1
	}
	return 1
}

// Newest is the newest version of a package, or of one that provides it; nil
// when there is none.
func (ix *Index) Newest(name string) *Package {
	if ps := ix.byName[name]; len(ps) > 0 {
		return ps[len(ps)-1]
	}
	if names := ix.provided[name]; len(names) > 0 {
		return ix.Newest(slices.Min(names))
	}
	return nil
}

// Twice lists the sources of which the archive serves two versions with
// packages for this machine, by name.
func (ix *Index) Twice() []string {
	var out []string
	for source, ps := range ix.bySource {
		first := ""
		for _, p := range ps {
			if p.Architecture != "amd64" || p.Debug {
				continue
			}
			if first != "" && p.SourceVersion != first {
				out = append(out, source)
				break
			}
			first = p.SourceVersion
		}
	}
	slices.Sort(out)
	return out
}

// Pair is a binary package in two builds.
type Pair struct{ Old, New *Package }

// Pairs gives the two newest versions of a source that the archive serves and
// the packages with machine code that exist in both.
func (ix *Index) Pairs(ctx context.Context, source string) (baseline, fixed string, pairs []Pair, err error) {
	builds := map[string]map[string]*Package{} // by source version and name
	var versions []string
	for _, p := range ix.bySource[source] {
		if p.Architecture != "amd64" || p.Debug {
			continue
		}
		if builds[p.SourceVersion] == nil {
			builds[p.SourceVersion] = map[string]*Package{}
			versions = append(versions, p.SourceVersion)
		}
		if had := builds[p.SourceVersion][p.Name]; had == nil || CompareVersions(ctx, had.Version, p.Version) < 0 {
			builds[p.SourceVersion][p.Name] = p
		}
	}
	if len(versions) < 2 {
		return "", "", nil, fmt.Errorf("the archive serves %d versions of the source %s, two are needed", len(versions), source)
	}
	slices.SortFunc(versions, func(x, y string) int { return CompareVersions(ctx, x, y) })
	baseline, fixed = versions[len(versions)-2], versions[len(versions)-1]
	for name, p := range builds[fixed] {
		if old := builds[baseline][name]; old != nil {
			pairs = append(pairs, Pair{old, p})
		}
	}
	slices.SortFunc(pairs, func(x, y Pair) int { return strings.Compare(x.Old.Name, y.Old.Name) })
	return baseline, fixed, pairs, nil
}

// FetchAll downloads the packages that are not in the cache yet, in one go,
// and returns their files in order. Only one call may run at a time.
func (a *Archive) FetchAll(ctx context.Context, ps []*Package) ([]string, error) {
	debs := filepath.Join(a.dir, "debs")
	var files, wanted []string
	for _, p := range ps {
		file := filepath.Join(debs, p.File())
		files = append(files, file)
		if st, err := os.Stat(file); err != nil || st.Size() != p.Size {
			wanted = append(wanted, p.Name+"="+p.Version)
		}
	}
	if len(wanted) > 0 {
		if _, err := a.apt(ctx, debs, "apt-get", append([]string{"download"}, wanted...)...); err != nil {
			return nil, fmt.Errorf("fetch %d packages: %w", len(wanted), err)
		}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("fetch: apt left no %s: %w", filepath.Base(file), err)
		}
	}
	return files, nil
}
