package host

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxLogs is how many rotated logs are read: a year of months, and some.
const maxLogs = 24

// An event is the replacement or removal of a package, as dpkg.log tells it.
// dpkg moves the files between the line "upgrade" or "remove" and the last
// "status" line before it does anything else with the package.
type event struct {
	begin, end time.Time // to the second
	pkg        string    // package:arch
	old        string    // version that was there
}

// readEvents reads /var/log/dpkg.log and those that logrotate(8) put away,
// oldest event first.
func readEvents(r *root) ([]event, error) {
	zone := time.UTC // the log is in local time
	if f, err := r.read("/etc/localtime"); err == nil {
		data, err := io.ReadAll(io.LimitReader(f, 1<<20))
		f.Close()
		if err == nil {
			if z, err := time.LoadLocationFromTZData("local", data); err == nil {
				zone = z
			}
		}
	}
	p := logParser{zone: zone, open: make(map[string]int)}
	for i := maxLogs; i >= 0; i-- {
		name := "/var/log/dpkg.log"
		if i > 0 {
			name += fmt.Sprintf(".%d", i)
		}
		err := readLog(r, name, &p)
		if errors.Is(err, unix.ENOENT) && i > 1 {
			err = readLog(r, name+".gz", &p)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
	}
	return p.events, nil
}

func readLog(r *root, name string, p *logParser) error {
	f, err := r.read(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var body io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if body, err = gzip.NewReader(f); err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
	}
	s := bufio.NewScanner(io.LimitReader(body, maxDatabase))
	for s.Scan() {
		p.line(s.Text())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return nil
}

// logParser reads the lines of dpkg.log (dpkg(1), --log). Lines that it does
// not know are passed over.
type logParser struct {
	zone   *time.Location
	events []event
	open   map[string]int // package:arch whose files are being moved: index of its event
}

func (p *logParser) line(text string) {
	f := strings.Fields(text)
	if len(f) < 5 {
		return
	}
	at, err := time.ParseInLocation(time.DateTime, f[0]+" "+f[1], p.zone)
	if err != nil {
		return
	}
	switch f[2] {
	case "upgrade", "remove": // action package old new
		p.open[f[3]] = len(p.events)
		p.events = append(p.events, event{at, at, f[3], f[4]})
	case "install", "configure", "purge", "trigproc":
		delete(p.open, f[3])
	case "status": // status state package version
		if i, ok := p.open[f[4]]; ok {
			p.events[i].end = at
		}
	}
}

// runningVersion finds the version of a package that a file belonged to which
// a process, begun at start, still maps. replaced is when the file lost its
// last name, zero when that is not known. The version is empty when it cannot
// be told; why says how it is known, or why not.
func runningVersion(events []event, pkg Package, start, replaced time.Time) (version, why string) {
	var own []event
	for _, e := range events {
		if name, arch, _ := strings.Cut(e.pkg, ":"); name == pkg.Name && (arch == "" || arch == pkg.Arch) {
			own = append(own, e)
		}
	}
	if !replaced.IsZero() {
		// The log tells whole seconds, rounded down.
		for _, e := range slices.Backward(own) {
			if !replaced.Before(e.begin) && replaced.Before(e.end.Add(2*time.Second)) {
				return e.old, "dpkg.log: replaced when the package was changed, " + e.begin.Format(time.DateTime)
			}
		}
		return "", "dpkg.log shows no change of the package at " + replaced.Format(time.DateTime) + ", when the file was replaced"
	}
	own = slices.DeleteFunc(own, func(e event) bool { return e.begin.Before(start.Truncate(time.Second)) })
	switch len(own) {
	case 0:
		return "", "dpkg.log shows no change of the package since the process began"
	case 1:
		return own[0].old, "dpkg.log: the one change of the package since the process began, " + own[0].begin.Format(time.DateTime)
	}
	return "", fmt.Sprintf("the package changed %d times since the process began", len(own))
}

// RunningVersion finds the version of pkg, an installed package, that a mapped
// file belongs to which is no longer on disk. See Module.RunningVersion.
func (p *Packages) RunningVersion(pkg Package, proc *Proc, m *Module) (version, why string) {
	if p.manager != "dpkg" {
		return "", "only dpkg's log tells earlier versions"
	}
	events, err := p.events()
	if err != nil {
		return "", err.Error()
	}
	return runningVersion(events, pkg, proc.Started, m.replaced)
}

// packages fills in the packages of all modules, root by root.
func (s *scanner) packages(ctx context.Context, procs []Proc) {
	type place struct{ proc, mod int }
	roots := make(map[rootKey]map[string][]place)
	for i, p := range procs {
		for j, m := range p.Modules {
			if roots[m.root] == nil {
				roots[m.root] = make(map[string][]place)
			}
			roots[m.root][m.OnDisk] = append(roots[m.root][m.OnDisk], place{i, j})
		}
	}
	for key, files := range roots {
		r := s.known(key)
		var paths []string
		for path := range files {
			if path != "" {
				paths = append(paths, path)
			}
		}
		if r == nil {
			continue
		}
		db := newPackages(r, key.mountNS == s.mountNS && r.path == "")
		owners, err := db.Owners(ctx, paths)
		for path, places := range files {
			for _, at := range places {
				fillPackage(db, &procs[at.proc], &procs[at.proc].Modules[at.mod], owners[path], err)
			}
		}
	}
}

func (s *scanner) known(key rootKey) *root {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.roots[key]; r != nil {
		return r
	}
	if o := s.tops[key.mountNS]; o != nil && o.v != nil && o.v.key == key {
		return o.v
	}
	return nil
}

func fillPackage(db *Packages, p *Proc, m *Module, pkg Package, err error) {
	m.Package = pkg
	switch {
	case err != nil:
		m.VersionReason = err.Error()
	case m.OnDisk == "":
		m.VersionReason = "nothing on disk tells the package"
	case pkg == Package{}:
		m.VersionReason = "no package owns " + m.OnDisk
	case m.State == Current:
		m.RunningVersion, m.VersionReason = pkg.Version, "the build on disk runs"
	case m.State == Outdated:
		m.RunningVersion, m.VersionReason = db.RunningVersion(pkg, p, m)
	default:
		m.VersionReason = m.Reason
	}
}
