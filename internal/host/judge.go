package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
)

// judgeKey is all that a verdict depends on.
type judgeKey struct {
	root    rootKey
	path    string
	deleted bool
	file    fileKey // the mapped file
}

// A verdict is what becomes of a mapped file; skip when it is no module.
type verdict struct {
	skip    bool
	state   State
	reason  string
	onDisk  string
	found   string
	running module.Identity
	fixed   module.Identity
}

func unknown(err error) verdict { return verdict{state: Unknown, reason: err.Error()} }

// modules lists what a process executes. ENOENT means that a mapping went
// away meanwhile, ESRCH that the process did.
func (s *scanner) modules(d procDir, r *root) ([]Module, error) {
	f, err := d.open("maps", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	maps, err := parseMaps(f)
	f.Close()
	if err != nil {
		return nil, err
	}
	out := make([]Module, 0, len(maps))
	for _, mp := range maps {
		m, ok, err := s.module(d, r, mp)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, m)
		}
	}
	return out, nil
}

// module looks at one mapped file; false when it is no ELF file.
func (s *scanner) module(d procDir, r *root, mp mapping) (Module, bool, error) {
	m := Module{Map: mp.name}
	st, err := d.fstatat("map_files/" + mp.name)
	if err != nil {
		return m, false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return m, false, nil
	}
	m.Dev, m.Ino = st.Dev, st.Ino
	var ok bool
	if m.Path, ok = r.inside(mp.path); !ok {
		m.Path, m.Outside = mp.path, true
		if r, err = s.topOf(r.key.mountNS); err != nil {
			m.State, m.Reason = Unknown, "it lies outside the root of the process: "+err.Error()
			return m, true, nil
		}
	}
	m.root, m.Deleted = r.key, mp.deleted
	if st.Nlink == 0 { // losing the last name is what changed the file last
		m.replaced = time.Unix(st.Ctim.Unix())
	}
	v, err := s.verdict(d, r, m.Path, &mp, &st)
	if err != nil {
		return m, false, err
	}
	if v.skip {
		return m, false, nil
	}
	m.State, m.Reason, m.OnDisk, m.Running, m.Fixed = v.state, v.reason, v.onDisk, v.running, v.fixed
	m.found = v.found
	if v.onDisk == m.Path+deletedMark { // that is its name
		m.Path, m.Deleted = v.onDisk, false
	}
	return m, true, nil
}

// verdict finds out about a mapped file, once for all processes. An error is of
// the process, not of the file.
func (s *scanner) verdict(d procDir, r *root, path string, mp *mapping, st *unix.Stat_t) (verdict, error) {
	key := judgeKey{r.key, path, mp.deleted, keyOf(st)}
	for {
		s.mu.Lock()
		o := s.judged[key]
		if o == nil {
			o = &once[verdict]{}
			s.judged[key] = o
		}
		s.mu.Unlock()
		mine := false
		o.Do(func() {
			mine = true
			o.v, o.err = s.look(d, r, &key, mp, st)
		})
		if o.err == nil {
			return o.v, nil
		}
		s.mu.Lock()
		if s.judged[key] == o {
			delete(s.judged, key)
		}
		s.mu.Unlock()
		if mine {
			return verdict{}, o.err
		}
	}
}

// look opens a mapped file and judges it.
func (s *scanner) look(d procDir, r *root, key *judgeKey, mp *mapping, st *unix.Stat_t) (verdict, error) {
	// Not for reading: opening a device could have an effect.
	mapped, err := d.open("map_files/"+mp.name, unix.O_PATH)
	if err != nil {
		return verdict{}, err
	}
	defer mapped.Close()
	now, err := fstat(mapped)
	if err == nil && keyOf(&now) != key.file {
		err = unix.ENOENT // another file is mapped there by now
	}
	if err != nil {
		return verdict{}, err
	}
	return s.judge(r, key.path, mp.deleted, mapped, st), nil
}

// judge compares a mapped file with the one now at its path.
func (s *scanner) judge(r *root, path string, deleted bool, mapped *os.File, st *unix.Stat_t) verdict {
	if is, err := isELF(mapped); err != nil || !is {
		if err != nil {
			return unknown(err)
		}
		return verdict{skip: true}
	}
	if deleted { // or it has a name that looks like it
		if v, ok := s.same(r, path+deletedMark, mapped, st); ok {
			return v
		}
	} else if v, ok := s.same(r, path, mapped, st); ok {
		return v
	}
	disk, err := r.locate(path)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return s.successor(r, path, mapped, st)
	case errors.Is(err, unix.ELOOP):
		return s.gone("the links at its path lead nowhere", mapped, st)
	case err != nil:
		return unknown(err)
	}
	defer disk.Close()
	return s.compare(r, path, disk, mapped, st, "at its path")
}

// same is the fast path: what is at the path is the mapped file itself.
func (s *scanner) same(r *root, path string, mapped *os.File, st *unix.Stat_t) (verdict, bool) {
	disk, err := r.locate(path)
	if err != nil {
		return verdict{}, false
	}
	defer disk.Close()
	now, err := fstat(disk)
	if err != nil || now.Dev != st.Dev || now.Ino != st.Ino {
		return verdict{}, false
	}
	v := verdict{state: Current, reason: "the file on disk is the one mapped", onDisk: canonical(r, disk, path), found: path}
	if s.Identities {
		id, err := s.Cache.identity(mapped, st)
		if err != nil {
			return unknown(err), true
		}
		v.running, v.fixed = id, id
	}
	return v, true
}

// compare compares builds; where says how disk was found.
func (s *scanner) compare(r *root, path string, disk, mapped *os.File, st *unix.Stat_t, where string) verdict {
	now, err := fstat(disk)
	if err != nil {
		return unknown(err)
	}
	v := verdict{onDisk: canonical(r, disk, path), found: path}
	if v.running, err = s.Cache.identity(mapped, st); err != nil {
		return unknown(fmt.Errorf("the mapped file: %w", err))
	}
	if now.Mode&unix.S_IFMT != unix.S_IFREG {
		v.state, v.reason, v.onDisk = Gone, "what is "+where+" is not a regular file", ""
		return v
	}
	v.fixed, err = s.Cache.identity(disk, &now)
	if errors.Is(err, errUnusable) {
		v.state, v.reason, v.onDisk = Gone, "what is "+where+" is "+err.Error(), ""
		return v
	}
	if err != nil {
		v.state, v.reason = Unknown, "the file on disk: "+err.Error()
		return v
	}
	switch {
	case v.running == v.fixed:
		v.state, v.reason = Current, "another file "+where+", the same build"
	case v.running.BuildID != "" && v.running.BuildID == v.fixed.BuildID:
		v.state, v.reason = Outdated, "same build-id but other content "+where
	default:
		v.state, v.reason = Outdated, "another build "+where
	}
	return v
}

// gone is of a module whose place no file on disk takes.
func (s *scanner) gone(reason string, mapped *os.File, st *unix.Stat_t) verdict {
	running, err := s.Cache.identity(mapped, st)
	if err != nil {
		return unknown(fmt.Errorf("the mapped file: %w", err))
	}
	return verdict{state: Gone, reason: reason, running: running}
}

// successor looks for the file that the loader would take instead of one that
// is gone: a new version of a library has another file name and the same soname.
func (s *scanner) successor(r *root, old string, mapped *os.File, st *unix.Stat_t) verdict {
	name, err := soname(mapped)
	if err != nil {
		return unknown(err)
	}
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return s.gone("nothing is at its path, and it has no soname to look for", mapped, st)
	}
	at := path.Join(path.Dir(old), name)
	disk, err := r.locate(at)
	if err != nil {
		return s.gone("nothing is at its path, nor at "+at, mapped, st)
	}
	defer disk.Close()
	if now, err := fstat(disk); err != nil || now.Mode&unix.S_IFMT != unix.S_IFREG {
		return s.gone("nothing is at its path, and "+at+" is not a regular file", mapped, st)
	}
	if other, err := soname(disk); err != nil || other != name {
		return s.gone("nothing is at its path, and "+at+" does not have its soname", mapped, st)
	}
	return s.compare(r, at, disk, mapped, st, "at "+at)
}

// canonical is the path of a file inside a root, without symbolic links; the
// path that it was opened by when the kernel tells none.
func canonical(r *root, f *os.File, path string) string {
	if p, err := fdPath(f); err == nil && !strings.HasSuffix(p, deletedMark) {
		if in, ok := r.inside(p); ok {
			return in
		}
	}
	return path
}

func isELF(f *os.File) (bool, error) {
	r, err := reopen(f)
	if err != nil {
		return false, err
	}
	defer r.Close()
	var magic [4]byte
	if n, err := r.ReadAt(magic[:], 0); n < len(magic) {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return false, err
	}
	return string(magic[:]) == "\x7fELF", nil
}

func soname(f *os.File) (string, error) {
	r, err := reopen(f)
	if err != nil {
		return "", err
	}
	defer r.Close()
	st, err := fstat(r)
	if err != nil {
		return "", err
	}
	return module.ReadSoname(r, st.Size)
}
