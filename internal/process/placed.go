package process

import (
	"crypto/rand"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// placed begins the names of files that PlaceFile makes.
const placed = ".hotpatch-"

// Placed reports whether the mapping is of a file that PlaceFile made.
func (m *Mapping) Placed() bool {
	return m.Gone && strings.HasPrefix(path.Base(m.Path), placed)
}

// PlaceFile makes a file of zeros, size bytes, in a directory below the root
// directory of the process, which can open it by the name that is returned and
// not write to it. It has the label by which a security module lets the process
// execute the file of the mapping like. What was mapped of it stays when remove
// has removed it.
func (p *Process) PlaceFile(dir string, size Addr, like Mapping) (name string, remove func(), err error) {
	fail := func(err error) (string, func(), error) {
		return "", nil, fmt.Errorf("place a file in %s of process %d: %w", dir, p.Pid, err)
	}
	root, err := unix.Openat(p.dir, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(gone(err))
	}
	defer unix.Close(root)
	// Links in there are the process's: they must not lead out (openat2(2), Linux 5.6).
	in, err := unix.Openat2(root, dir, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return fail(err)
	}
	base := placed + rand.Text()
	fd, err := unix.Openat(in, base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o444)
	if err != nil {
		unix.Close(in)
		return fail(err)
	}
	defer unix.Close(fd)
	remove = func() {
		_ = unix.Unlinkat(in, base, 0)
		unix.Close(in)
	}
	if err = unix.Fchmod(fd, 0o444); err == nil { // whatever the umask
		err = unix.Ftruncate(fd, int64(size))
	}
	if err != nil {
		remove()
		return fail(err)
	}
	p.copyLabel(fd, like)
	return path.Join(dir, base), remove, nil
}

// copyLabel gives a file the label of another; without it the process may be
// refused to map the file, and says so.
func (p *Process) copyLabel(fd int, like Mapping) {
	const selinux = "security.selinux"
	f, err := p.OpenMapped(like)
	if err != nil {
		return
	}
	defer f.Close()
	label := make([]byte, 256)
	if n, err := unix.Fgetxattr(int(f.Fd()), selinux, label); err == nil {
		_ = unix.Fsetxattr(fd, selinux, label[:n], 0)
	}
}
