package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// retry repeats a call that a signal interrupted, and openat2 with
// RESOLVE_IN_ROOT when a rename raced with it (openat2(2), EAGAIN).
func retry[T any](f func() (T, error)) (T, error) {
	for range 100 {
		if v, err := f(); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return v, err
		}
	}
	return f()
}

// procDir is an open /proc/PID. Once its process has ended it leads nowhere,
// also when the number is taken again.
type procDir struct {
	*os.File
	pid int
}

// openProc opens /proc/id; id is a process or one of its threads.
func openProc(id int) (procDir, error) {
	path := "/proc/" + strconv.Itoa(id)
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return procDir{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return procDir{os.NewFile(uintptr(fd), path), id}, nil
}

// open opens a file below /proc/PID.
func (d procDir) open(name string, flags int) (*os.File, error) {
	path := d.Name() + "/" + name
	fd, err := retry(func() (int, error) {
		return unix.Openat(int(d.Fd()), name, flags|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// fstatat looks at what a link below /proc/PID leads to.
func (d procDir) fstatat(name string) (st unix.Stat_t, err error) {
	_, err = retry(func() (struct{}, error) { return struct{}{}, unix.Fstatat(int(d.Fd()), name, &st, 0) })
	if err != nil {
		err = &os.PathError{Op: "stat", Path: d.Name() + "/" + name, Err: err}
	}
	return st, err
}

// read reads a small file below /proc/PID, at most 64 KiB.
func (d procDir) read(name string) (string, error) {
	f, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(b), err
}

func (d procDir) link(name string) (string, error) { return readlink(int(d.Fd()), name) }

func readlink(dir int, name string) (string, error) {
	b := make([]byte, unix.PathMax+len(deletedMark))
	n, err := retry(func() (int, error) { return unix.Readlinkat(dir, name, b) })
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(b[:n]), nil
}

// ended reports whether err means that the process is no more.
func ended(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT)
}

// rootKey tells roots apart, and the mounts seen from them.
type rootKey struct{ mountNS, mount, dev, ino uint64 }

// A root is a directory that paths are looked up in and cannot leave.
type root struct {
	dir  *os.File // O_PATH
	key  rootKey
	path string // as seen from here, without a slash at the end: what paths in maps begin with
}

// root opens the root directory of a process whose mount namespace is known.
func (d procDir) root(mountNS uint64) (*root, error) {
	dir, err := d.open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return newRoot(dir, mountNS)
}

func newRoot(dir *os.File, mountNS uint64) (*root, error) {
	var x unix.Statx_t
	err := unix.Statx(int(dir.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_MNT_ID, &x)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("statx %s: %w", dir.Name(), err), dir.Close())
	}
	path, err := fdPath(dir)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	dev := unix.Mkdev(x.Dev_major, x.Dev_minor)
	return &root{dir, rootKey{mountNS, x.Mnt_id, dev, x.Ino}, strings.TrimSuffix(path, "/")}, nil
}

// fdPath is the path of an open file, as seen from here.
func fdPath(f *os.File) (string, error) {
	return readlink(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())))
}

// locate opens path inside the root, following symbolic links inside it, but
// not yet for reading: a device or a pipe must not notice (openat2(2), Linux 5.6).
func (r *root) locate(path string) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := retry(func() (int, error) { return unix.Openat2(int(r.dir.Fd()), path, &how) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: r.path + path, Err: err}
	}
	return os.NewFile(uintptr(fd), r.path+path), nil
}

// inside turns a path as seen from here into one in the root.
func (r *root) inside(path string) (string, bool) {
	if path == r.path {
		return "/", true
	}
	rest, ok := strings.CutPrefix(path, r.path+"/")
	return "/" + rest, ok
}

// read opens a regular file inside the root for reading.
func (r *root) read(path string) (*os.File, error) {
	f, err := r.locate(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return regular(f)
}

// regular opens for reading what an O_PATH descriptor stands for if that is a
// regular file.
func regular(f *os.File) (*os.File, error) {
	st, err := fstat(f)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	return reopen(f)
}

// reopen opens for reading what an O_PATH descriptor of a regular file stands
// for. A lease that someone holds on the file makes it fail rather than wait
// (fcntl(2), F_SETLEASE).
func reopen(f *os.File) (*os.File, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil { // or the runtime would poll it
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func fstat(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	_, err := retry(func() (struct{}, error) { return struct{}{}, unix.Fstat(int(f.Fd()), &st) })
	if err != nil {
		return st, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}
