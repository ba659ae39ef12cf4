package host

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
)

// Running opens the file that a process has mapped, also when it is deleted.
// It is a *ChangedError when the process or the mapping is no longer the one
// that was scanned.
func Running(p *Proc, m *Module) (*os.File, error) {
	d, err := reach(p)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.open("map_files/"+m.Map, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil, &ChangedError{p.PID, m.Path + " was unmapped"}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := fstat(f)
	if err != nil {
		return nil, err
	}
	if st.Dev != m.Dev || st.Ino != m.Ino || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &ChangedError{p.PID, "another file was mapped at " + m.Map}
	}
	return expect(f, p, m.Running)
}

// Fixed opens the file on disk that takes the place of a mapped one, inside
// the root that the process sees. It, and every directory and link on the way,
// must be writable for nobody but root and the caller, or in a container the
// container's root, and it must be what dpkg has on record, if it has anything:
// otherwise the error is an *UntrustedError. It is a *ChangedError when the
// process or the build on disk is no longer the one that was scanned.
func Fixed(p *Proc, m *Module) (*os.File, error) {
	if m.OnDisk == "" {
		return nil, fmt.Errorf("open the file that replaces %s: %s", m.Path, m.Reason)
	}
	r, who, err := place(p, m)
	if err != nil {
		return nil, err
	}
	defer r.dir.Close()
	f, err := r.trusted(cmp.Or(m.found, m.OnDisk), who)
	if errors.Is(err, unix.ENOENT) {
		return nil, &ChangedError{p.PID, m.OnDisk + " was removed"}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := fstat(f)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &ChangedError{p.PID, m.OnDisk + " became something other than a file"}
	}
	out, err := expect(f, p, m.Fixed)
	if err != nil {
		return nil, err
	}
	if err := newPackages(r, false).recorded(m.Package, m.OnDisk, out); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// Beside opens another file that belongs to a module, by the path that the
// process would use, under the same rules as Fixed.
func Beside(p *Proc, m *Module, path string) (*os.File, error) {
	r, who, err := place(p, m)
	if err != nil {
		return nil, err
	}
	defer r.dir.Close()
	f, err := r.trusted(path, who)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return regular(f)
}

// place is the root that the paths of a module lead from, and who may own what
// is taken from it.
func place(p *Proc, m *Module) (*root, owners, error) {
	d, err := reach(p)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	mountNS, err := d.mountNS()
	if err != nil {
		return nil, nil, err
	}
	who, err := d.owners(p.OtherNS)
	if err != nil {
		return nil, nil, err
	}
	var r *root
	if m.Outside {
		r, err = findTop(mountNS)
	} else {
		r, err = d.root(mountNS)
	}
	return r, who, err
}

// reach opens /proc/PID of the very process that was scanned.
func reach(p *Proc) (procDir, error) {
	d, err := openProc(p.PID)
	if err != nil {
		if ended(err) {
			err = &ChangedError{p.PID, "it ended"}
		}
		return d, err
	}
	st, err := d.stat()
	if err == nil && st.start == p.Start && (st.state == 'Z' || st.state == 'X') {
		// As in a scan, another thread may hold the memory.
		var t procDir
		if t, err = d.liveThread(); err == nil {
			return t, d.Close()
		}
	}
	if err != nil && !ended(err) {
		return d, errors.Join(err, d.Close())
	}
	if err != nil || st.start != p.Start {
		return d, errors.Join(&ChangedError{p.PID, "it ended"}, d.Close())
	}
	return d, nil
}

// expect opens f for reading and makes sure that it is the build want, where
// that is known.
func expect(f *os.File, p *Proc, want module.Identity) (*os.File, error) {
	r, err := reopen(f)
	if err != nil {
		return nil, err
	}
	if want == (module.Identity{}) {
		return r, nil
	}
	st, err := fstat(r)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	id, err := module.ReadIdentity(r, st.Size)
	if err == nil && id != want {
		err = &ChangedError{p.PID, f.Name() + " became another build"}
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}
