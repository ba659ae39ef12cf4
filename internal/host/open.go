package host

import (
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
// the root that the process sees. It must be a regular file that only root
// can write, or the caller's own: otherwise the error is an *UntrustedError.
// It is a *ChangedError when the process or the build on disk is no longer
// the one that was scanned.
func Fixed(p *Proc, m *Module) (*os.File, error) {
	if m.OnDisk == "" {
		return nil, fmt.Errorf("open the file that replaces %s: %s", m.Path, m.Reason)
	}
	d, err := reach(p)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	mountNS, err := d.mountNS()
	if err != nil {
		return nil, err
	}
	var r *root
	if m.Outside {
		r, err = findTop(mountNS)
	} else {
		r, err = d.root(mountNS)
	}
	if err != nil {
		return nil, err
	}
	defer r.dir.Close()
	f, err := r.locate(m.OnDisk)
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
	if (st.Uid != 0 && st.Uid != uint32(os.Geteuid())) || st.Mode&0o022 != 0 {
		return nil, &UntrustedError{m.OnDisk, st.Uid, st.Mode & 0o7777}
	}
	return expect(f, p, m.Fixed)
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
