package host

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// owners are the users who may own a file that code is taken from, and every
// directory and link on the way to it.
type owners []uint32

// owners are root and the caller. In another mount namespace it is also the
// root of the user namespace that the process itself is in: whoever that is
// rules over the process anyway (user_namespaces(7)).
func (d procDir) owners(otherNS bool) (owners, error) {
	who := owners{0, uint32(os.Geteuid())}
	if !otherNS {
		return who, nil
	}
	text, err := d.read("uid_map")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		var inside, outside, count uint32
		if n, err := fmt.Sscan(line, &inside, &outside, &count); n != 3 {
			return nil, fmt.Errorf("read %s/uid_map: %w", d.Name(), err)
		}
		if inside == 0 && count > 0 {
			who = append(who, outside)
		}
	}
	return who, nil
}

// trusted opens path inside the root as locate does, and makes sure that
// nobody but the owners can change what it leads to: each directory and link
// on the way is theirs, and so is the file. A directory that others can write
// is good enough when it is sticky: what the owners have in it stays theirs.
func (r *root) trusted(name string, who owners) (*os.File, error) {
	const maxLinks = 40 // as the kernel, path_resolution(7)
	at, todo := "/", strings.Split(name, "/")
	for links := 0; ; {
		how := unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
		}
		fd, err := retry(func() (int, error) { return unix.Openat2(int(r.dir.Fd()), at, &how) })
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: r.path + at, Err: err}
		}
		f := os.NewFile(uintptr(fd), r.path+at)
		st, err := fstat(f)
		kind := st.Mode & unix.S_IFMT
		switch {
		case err != nil:
		case !slices.Contains(who, st.Uid):
			err = &UntrustedError{at, "it belongs to user " + strconv.Itoa(int(st.Uid))}
		case kind != unix.S_IFLNK && st.Mode&0o022 != 0 && (kind != unix.S_IFDIR || st.Mode&unix.S_ISVTX == 0):
			err = &UntrustedError{at, fmt.Sprintf("others can write it (mode %#o)", st.Mode&0o7777)}
		case kind == unix.S_IFLNK:
			var to string
			if to, err = readlink(fd, ""); err != nil {
				break
			}
			if links++; links > maxLinks {
				err = &os.PathError{Op: "open", Path: f.Name(), Err: unix.ELOOP}
			}
			if at = path.Dir(at); path.IsAbs(to) {
				at = "/"
			}
			todo = append(strings.Split(to, "/"), todo...)
		case len(todo) == 0:
			return f, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if len(todo) > 0 { // at has no links: ".." is its parent, and stays in the root
			at, todo = path.Join(at, todo[0]), todo[1:]
		}
	}
}

// recorded makes sure that a file is what dpkg has on record for its package:
// an MD5, which finds damage and what was not installed by dpkg, and no attack
// on MD5. Files that it has no digest of pass.
func (p *Packages) recorded(pkg Package, name string, f *os.File) error {
	if p.manager != "dpkg" || pkg.Manager != "dpkg" {
		return nil
	}
	names := make(map[string]string)
	for _, a := range aliases(name) {
		names[a] = name
	}
	diverted, err := p.diversions(names)
	if err != nil {
		return err
	}
	for from, to := range diverted {
		if to.holds(pkg.Name) {
			continue
		}
		delete(names, from) // the package's file of that name lies elsewhere
		if names[to.path] != "" {
			names[from] = name
		}
	}
	want := ""
	for _, list := range []string{pkg.Name + ":" + pkg.Arch, pkg.Name} {
		err := p.lines("/var/lib/dpkg/info/"+list+".md5sums", func(line []byte) {
			if sum, file, ok := strings.Cut(string(line), "  "); ok && names["/"+file] != "" {
				want = sum
			}
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err == nil {
			break
		}
	}
	if want == "" {
		return nil
	}
	h := md5.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, maxModule)); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return &UntrustedError{name, fmt.Sprintf("its MD5 is %s, of package %s dpkg has %s on record", got, pkg.Name, want)}
	}
	return nil
}
