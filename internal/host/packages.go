package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"hotpatch/internal/deb"
)

// Bounds on a package database, which may be a container's own.
const (
	maxDatabase = 256 << 20 // bytes of one file
	maxLists    = 1 << 17   // packages
)

// Packages is the package database of one root directory.
type Packages struct {
	root    *root
	manager string // dpkg, rpm, or empty
	events  func() ([]event, error)
}

// OpenPackages opens the package database of the system in a root directory:
// dpkg's, or of "/" also rpm's. Close it.
func OpenPackages(dir string) (*Packages, error) {
	fd, err := retry(func() (int, error) { return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	r, err := newRoot(os.NewFile(uintptr(fd), dir), 0)
	if err != nil {
		return nil, err
	}
	return newPackages(r, r.path == ""), nil
}

// newPackages uses the root. rpm is asked for the caller's own root only: it
// would run on a database that someone else wrote.
func newPackages(r *root, own bool) *Packages {
	p := &Packages{root: r}
	p.events = sync.OnceValues(func() ([]event, error) { return readEvents(r) })
	if f, err := r.locate("/var/lib/dpkg/status"); err == nil {
		f.Close()
		p.manager = "dpkg"
	} else if _, err := exec.LookPath("rpm"); own && err == nil {
		p.manager = "rpm"
	}
	return p
}

// Close frees the root.
func (p *Packages) Close() error { return p.root.dir.Close() }

// Owners finds the packages that own files; paths are absolute, in the root,
// without symbolic links. Files that no package owns are left out.
func (p *Packages) Owners(ctx context.Context, paths []string) (map[string]Package, error) {
	switch {
	case len(paths) == 0:
		return nil, nil
	case p.manager == "dpkg":
		return p.dpkg(ctx, paths)
	case p.manager == "rpm":
		return rpm(ctx, paths)
	}
	return nil, errors.New("no package database that is understood")
}

// aliases are the names under which a package may hold a path: /usr/lib/x may
// be packaged as /lib/x where the directories are merged.
func aliases(name string) []string {
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/libo32/"} {
		if strings.HasPrefix(name, dir) {
			return []string{name, "/usr" + name}
		}
		if strings.HasPrefix(name, "/usr"+dir) {
			return []string{name, strings.TrimPrefix(name, "/usr")}
		}
	}
	return []string{name}
}

// dpkg finds owners in /var/lib/dpkg/info/*.list, and their versions in status.
func (p *Packages) dpkg(ctx context.Context, paths []string) (map[string]Package, error) {
	wanted := make(map[string]string) // name in a list: path asked for
	for _, path := range paths {
		for _, a := range aliases(path) {
			if _, ok := wanted[a]; !ok || a == path {
				wanted[a] = path
			}
		}
	}
	diverted, err := p.diversions(wanted)
	if err != nil {
		return nil, err
	}
	lists, err := p.lists()
	if err != nil {
		return nil, err
	}
	owner := make(map[string]string) // path asked for: package or package:arch
	for _, list := range lists {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pkg := strings.TrimSuffix(list, ".list")
		err := p.lines("/var/lib/dpkg/info/"+list, func(line []byte) {
			at := string(line)
			if to, ok := diverted[at]; ok && !to.holds(pkg) {
				at = to.path // this package's file lies elsewhere
			}
			if path, ok := wanted[at]; ok && (owner[path] == "" || at == path) {
				owner[path] = pkg
			}
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
	}
	status, err := p.status(owner)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Package, len(owner))
	for path, name := range owner {
		if pkg, ok := status[name]; ok {
			out[path] = pkg
		}
	}
	return out, nil
}

func (p *Packages) lists() ([]string, error) {
	dir, err := p.root.locate("/var/lib/dpkg/info")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	open := os.NewFile(uintptr(fd), dir.Name())
	defer open.Close()
	var lists []string
	for {
		names, err := open.Readdirnames(1000)
		for _, name := range names {
			if strings.HasSuffix(name, ".list") {
				lists = append(lists, name)
			}
		}
		if err == io.EOF {
			return lists, nil
		}
		if err != nil {
			return nil, err
		}
		if len(lists) > maxLists {
			return nil, fmt.Errorf("%s: more than %d packages", dir.Name(), maxLists)
		}
	}
}

// lines calls f with every line of a file in the root.
func (p *Packages) lines(path string, f func([]byte)) error {
	file, err := p.root.read(path)
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(io.LimitReader(file, maxDatabase))
	s.Buffer(make([]byte, 64<<10), 1<<20)
	for s.Scan() {
		f(s.Bytes())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return nil
}

// A diversion moves a file of every package but one (dpkg-divert(1)).
type diversion struct {
	path string
	by   string // the package whose file stays, ":" for none
}

func (d diversion) holds(pkg string) bool {
	name, _, _ := strings.Cut(pkg, ":")
	return d.by == name
}

// diversions reads those that touch a wanted file: three lines each, from, to
// and the package.
func (p *Packages) diversions(wanted map[string]string) (map[string]diversion, error) {
	out := make(map[string]diversion)
	var rec []string
	err := p.lines("/var/lib/dpkg/diversions", func(line []byte) {
		if rec = append(rec, string(line)); len(rec) < 3 {
			return
		}
		if wanted[rec[0]] != "" || wanted[rec[1]] != "" {
			out[rec[0]] = diversion{rec[1], rec[2]}
		}
		rec = rec[:0]
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	return out, nil
}

// status reads what is installed of the owners, under the names of their
// lists: package, or package:arch for what can be installed for several.
func (p *Packages) status(owner map[string]string) (map[string]Package, error) {
	wanted := make(map[string]bool)
	for _, name := range owner {
		wanted[name] = true
	}
	out := make(map[string]Package)
	field := make(map[string]string)
	end := func() {
		pkg := Package{Manager: "dpkg", Name: field["Package"], Version: field["Version"], Arch: field["Architecture"]}
		pkg.Source, pkg.SourceVersion = deb.SplitSource(field["Source"], pkg.Name, pkg.Version)
		if pkg.Version != "" {
			for _, name := range []string{pkg.Name, pkg.Name + ":" + pkg.Arch} {
				if wanted[name] {
					out[name] = pkg
				}
			}
		}
		clear(field)
	}
	err := p.lines("/var/lib/dpkg/status", func(line []byte) {
		if len(line) == 0 {
			end()
			return
		}
		name, value, _ := strings.Cut(string(line), ":")
		switch name {
		case "Package", "Version", "Architecture", "Source":
			field[name] = strings.TrimSpace(value)
		}
	})
	end()
	return out, err
}

// rpm asks rpm(8) who owns files, some hundred at a time.
func rpm(ctx context.Context, paths []string) (map[string]Package, error) {
	const format = `[%{=NAME}\t%{=EPOCHNUM}:%{=VERSION}-%{=RELEASE}\t%{=ARCH}\t%{=SOURCERPM}\t%{FILENAMES}\n]`
	out := make(map[string]Package)
	for len(paths) > 0 {
		n := min(len(paths), 200)
		cmd := exec.CommandContext(ctx, "rpm", append([]string{"-qf", "--qf", format, "--"}, paths[:n]...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		text, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) { // it fails when any file has no owner
			return nil, fmt.Errorf("run rpm: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		wanted := make(map[string]string)
		for _, path := range paths[:n] {
			for _, a := range aliases(path) {
				wanted[a] = path
			}
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if len(f) != 5 || wanted[path.Clean(f[4])] == "" {
				continue
			}
			out[wanted[path.Clean(f[4])]] = Package{
				Manager: "rpm", Name: f[0], Version: strings.TrimPrefix(f[1], "0:"), Arch: f[2], Source: f[3],
			}
		}
		paths = paths[n:]
	}
	return out, nil
}
