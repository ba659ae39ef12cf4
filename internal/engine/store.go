package engine

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// DefaultStore is where the host keeps what it put into which process. It
// is gone after a reboot, as the processes are.
const DefaultStore = "/run/hotpatch"

// Store is the host's record of patches in processes.
type Store struct {
	dir     string
	mu      sync.Mutex
	patches map[patch.ID]*patch.Patch // that are in it, as they were read
}

// Phase is how far a transaction has come, in a record.
type Phase string

// The phases of a record. All but Done are found only when a run was cut off.
const (
	Intent   Phase = "intent"   // what is Pending comes and what is Going goes; entries may be changed
	Clearing Phase = "clearing" // entries are changed; what is Going may be mapped yet
	Done     Phase = "done"
)

// Record is what is in one process.
type Record struct {
	process.ID
	// Sharing are all processes that have the memory, this one too, where they
	// are several: each has a copy of the record.
	Sharing []process.ID `json:"sharing,omitempty"`
	Boot    string       `json:"boot"`
	Program string       `json:"program"`
	Phase   Phase        `json:"phase"`
	Units   []UnitRecord `json:"units,omitempty"`
	Pending []UnitRecord `json:"pending,omitempty"` // coming with the transaction under way
	Going   []UnitRecord `json:"going,omitempty"`   // leaving with it, or replaced
	// Stays are out of force, but their code stays mapped: a thread is in it
	// yet (Draining), or an address of it may be held.
	Stays  []UnitRecord  `json:"stays,omitempty"`
	Finder *FinderRecord `json:"finder,omitempty"`
	Left   int64         `json:"left,omitempty"` // bytes of address space that stay for good, since patches were here
	Time   time.Time     `json:"time"`

	// UnderWay says that a transaction is. Engine.Status sets it.
	UnderWay bool `json:"-"`
	// Notes are what else is to be known of it. Engine.Status sets them.
	Notes []Reason `json:"-"`
}

// UnitRecord is one patch in its module. It is also what the header says.
type UnitRecord struct {
	Patch   patch.ID       `json:"patch"`
	Path    string         `json:"path"`
	Bias    process.Addr   `json:"bias"`
	Overlay process.Addr   `json:"overlay"` // bias
	Start   process.Addr   `json:"start"`   // of what is reserved
	End     process.Addr   `json:"end"`
	Imports []process.Addr `json:"imports,omitempty"`
	Held    []HeldRecord   `json:"held,omitempty"`   // what earlier patches brought
	Finder  process.Addr   `json:"finder,omitempty"` // where its entry in the finder's table is
	Retired bool           `json:"retired,omitempty"`
	Sealed  bool           `json:"sealed,omitempty"`
	Time    time.Time      `json:"time"`

	// The header does not have these.
	Steers []SteerRecord `json:"steers,omitempty"`
	Level  Level         `json:"level,omitempty"`
	// Draining: a thread may yet be in code that the patch replaced or, when it
	// is out of force, in the patch's own.
	Draining bool       `json:"draining,omitempty"`
	Replaced []patch.ID `json:"replaced,omitempty"` // the patches before it in this module, oldest first

	out bool // the header says that it is out of force

	// Lacking says that the program has loaded another copy of the module
	// since, without the patch. Engine.Status sets it.
	Lacking bool `json:"-"`
}

// HeldRecord is where something of an overlay is that an earlier patch brought.
type HeldRecord struct {
	At module.Addr  `json:"at"` // in the overlay
	In process.Addr `json:"in"`
}

// SteerRecord is one entry that was changed.
type SteerRecord struct {
	Name string       `json:"name"`
	At   process.Addr `json:"at"`
	Old  [5]byte      `json:"old"`
	New  [5]byte      `json:"new"`
}

// unsteer puts the baseline's bytes into b, which was read at a.
func (u *UnitRecord) unsteer(a process.Addr, b []byte) {
	for _, s := range u.Steers {
		for i := range s.Old {
			if off := s.At + process.Addr(i) - a; off < process.Addr(len(b)) && b[off] == s.New[i] {
				b[off] = s.Old[i]
			}
		}
	}
}

// of are the processes that the record is of.
func (r *Record) of() []process.ID {
	if len(r.Sharing) > 0 {
		return r.Sharing
	}
	return []process.ID{r.ID}
}

// left is the address space that patches which are out of force hold, in bytes.
func (r *Record) left() int64 {
	n := r.Left
	for _, u := range r.Stays {
		if u.Draining {
			n += int64(u.End - u.Start)
		}
	}
	return n
}

// OpenStore opens the directory, and makes it.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := CheckStore(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "patches"), 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{dir: dir, patches: make(map[patch.ID]*patch.Patch)}, nil
}

// CheckStore refuses a directory that cannot be a store.
func CheckStore(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("open store %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("open store %s: it must be a directory of our own that nobody else can enter", dir)
	}
	return nil
}

// open opens a file of the store. os.OpenFile makes five system calls more, to
// see whether it can be polled.
func open(name string, flags int) (*os.File, error) {
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Lock keeps other transactions away from a process, and from its record. A
// second one gets a *Reason with code Locked.
func (s *Store) Lock(id process.ID) (unlock func(), err error) {
	f, err := open(s.lockPath(id), unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("lock process %d: %w", id.Pid, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock process %d: %w", id.Pid, err)
		}
		r := &Reason{Code: Locked, Pid: id.Pid, Detail: "another transaction on this process is under way"}
		if holder := process.LockHolder(int(f.Fd())); holder != 0 {
			r.Detail += fmt.Sprintf(", by process %d (%s)", holder, process.NameOf(holder))
		}
		return nil, r
	}
	s.markLock(f)
	return func() {
		// A child between fork and exec shares the lock: closing is not enough.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		f.Close()
	}, nil
}

// markLock writes down in a new lock file where the process is seen. Without, its
// files are never swept.
func (s *Store) markLock(f *os.File) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Size > 0 {
		return
	}
	if ns, err := process.Namespaces(); err == nil {
		_, _ = f.WriteString(ns)
	}
}

func (s *Store) lockPath(id process.ID) string { return filepath.Join(s.dir, id.String()+".lock") }

func (s *Store) path(id process.ID) string { return filepath.Join(s.dir, id.String()+".json") }

// Load reads the record of a process, the last whole line of its file; nil when
// there is none of this boot.
func (s *Store) Load(id process.ID) (*Record, error) {
	f, err := open(s.path(id), unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load record: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("load record: %w", err)
	}
	r, err := lastRecord(b)
	if err != nil {
		return nil, &damagedError{id, f.Name(), err}
	}
	boot, err := process.BootID()
	if err != nil {
		return nil, err
	}
	if r == nil || r.Boot != boot || r.ID != id {
		return nil, nil
	}
	return r, nil
}

// damagedError says that there is a record and that it cannot be read.
type damagedError struct {
	id   process.ID
	file string
	err  error
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("load record of process %d: %s is damaged (%v): move it away, then what is in the process is read from the process itself", e.id.Pid, e.file, e.err)
}

// setAside keeps a damaged record under another name, and says so.
func (s *Store) setAside(e *damagedError) (Reason, error) {
	to := e.file + damagedExt
	if err := os.Rename(e.file, to); err != nil {
		return Reason{}, fmt.Errorf("%w; %w", e, err)
	}
	return Reason{Code: DamagedRecord, Pid: e.id.Pid, Detail: fmt.Sprintf("its record could not be read (%v) and is kept as %s; what is in the process was read from the process itself", e.err, to)}, nil
}

// damagedExt is what the name of a damaged record ends in.
const damagedExt = ".damaged"

// lastRecord is the last whole line of a file of records. A line that whoever
// wrote it was killed over counts as not written.
func lastRecord(b []byte) (*Record, error) {
	var bad error
	end := bytes.LastIndexByte(b, '\n')
	for end >= 0 {
		start := bytes.LastIndexByte(b[:end], '\n')
		if line := b[start+1 : end]; len(line) > 0 {
			r := &Record{}
			err := json.Unmarshal(line, r)
			if err == nil {
				return r, nil
			}
			bad = cmp.Or(bad, err)
		}
		end = start
	}
	return nil, bad
}

// Save writes a record so that it is there, whole, after it returns, whatever
// becomes of this program: until then the one before it counts. It need not
// outlast the machine: no process does. It is a line more in the file; making
// another file for each costs much where /run is on a disk.
func (s *Store) Save(r *Record) error {
	r.Time = time.Now().UTC()
	for _, id := range r.of() {
		one := *r
		one.ID = id
		b, err := json.Marshal(&one)
		if err == nil {
			err = s.add(s.path(id), b, r.Phase == Done)
		}
		if err != nil {
			return s.advise(fmt.Errorf("save record: %w", err))
		}
	}
	return nil
}

// reserve keeps room for the records of one transaction, of which r is the first,
// where the file system can.
func (s *Store) reserve(r *Record) error {
	const more = 256 // bytes that a record may grow
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("reserve room for records: %w", err)
	}
	lines := 6 + 2*len(r.Pending) // each step, and what hardens each unit
	for _, id := range r.of() {
		f, err := open(s.path(id), unix.O_CREAT|unix.O_WRONLY)
		if err != nil {
			return s.advise(fmt.Errorf("reserve room for records: %w", err))
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err == nil {
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, int64(lines*(len(b)+more)))
		}
		f.Close()
		if isFull(err) {
			return s.advise(fmt.Errorf("reserve room for records: %w", err))
		}
	}
	return nil
}

// release gives back what is left of the room.
func (s *Store) release(r *Record) {
	for _, id := range r.of() {
		if st, err := os.Stat(s.path(id)); err == nil {
			_ = os.Truncate(s.path(id), st.Size())
		}
	}
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// advise says what to do about a full file system.
func (s *Store) advise(err error) error {
	if isFull(err) {
		err = fmt.Errorf("%w: make room for the store, %s", err, s.dir)
	}
	return err
}

// add adds a line to a file, or may begin it anew when it is long.
func (s *Store) add(name string, line []byte, anew bool) error {
	const room = 64 << 10 // bytes
	// The line before it may have no end.
	b := slices.Concat([]byte{'\n'}, line, []byte{'\n'})
	f, err := open(name, unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size > room && anew && s.write(name, b) == nil {
		return nil
	}
	if err == nil {
		_, err = f.Write(b)
	}
	return err
}

func (s *Store) write(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Drop empties the record of a process that has no patches. Its files stay:
// the next patch needs them, and whoever removes a lock that is held lets two in.
func (s *Store) Drop(id process.ID) { _ = os.Truncate(s.path(id), 0) }

// Forget removes all that is kept of a process that is no more.
func (s *Store) Forget(id process.ID) {
	os.Remove(s.path(id))
	os.Remove(s.path(id) + damagedExt)
	os.Remove(s.lockPath(id))
	os.Remove(s.blockedPath(id))
}

// FileID names a file by its device and inode, as fstat(2) says them.
type FileID struct{ Dev, Ino uint64 }

func (s *Store) filesPath() string { return filepath.Join(s.dir, "files") }

// Files are those that processes had mapped when they were patched. Children of
// these may have them mapped, and no record.
func (s *Store) Files() map[FileID]bool {
	out := make(map[FileID]bool)
	b, err := os.ReadFile(s.filesPath())
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(b)) {
		var f FileID
		if n, _ := fmt.Sscan(line, &f.Dev, &f.Ino); n == 2 {
			out[f] = true
		}
	}
	return out
}

// AddFiles adds files to Files.
func (s *Store) AddFiles(files []FileID) error {
	have := s.Files()
	var b []byte
	for _, f := range files {
		if !have[f] {
			have[f] = true
			b = fmt.Appendf(b, "%d %d\n", f.Dev, f.Ino)
		}
	}
	if b == nil {
		return nil
	}
	f, err := open(s.filesPath(), unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		return s.advise(fmt.Errorf("note patched files: %w", err))
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return s.advise(fmt.Errorf("note patched files: %w", err))
	}
	return nil
}

// PatchFile is where the copy of a patch is kept.
func (s *Store) PatchFile(id patch.ID) string {
	return filepath.Join(s.dir, "patches", filepath.Base(string(id))+patch.Extension)
}

// SavePatch keeps a copy of a patch, to verify and to undo it later.
func (s *Store) SavePatch(p *patch.Patch) error {
	if _, err := s.Patch(p.ID); err == nil {
		return nil
	}
	c := *p
	b, err := c.Encode()
	if err != nil {
		return err
	}
	if c.ID != p.ID {
		return fmt.Errorf("save patch %s: it encodes as %s", p.ID.Short(), c.ID.Short())
	}
	return s.advise(s.write(s.PatchFile(p.ID), b))
}

// Patch reads a patch that was saved. One that was not is a *Reason. It must not be changed.
func (s *Store) Patch(id patch.ID) (*patch.Patch, error) {
	const most = 64 // that are kept
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.patches[id]; p != nil {
		return p, nil
	}
	p, err := patch.Open(s.PatchFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		err = &Reason{Code: Conflict, Detail: fmt.Sprintf("the process says that it has patch %s, which is not in the store", id.Short())}
	}
	if err != nil {
		return nil, err
	}
	if p.ID != id {
		return nil, fmt.Errorf("read patch %s: the file is patch %s", id.Short(), p.ID.Short())
	}
	if len(s.patches) >= most {
		clear(s.patches)
	}
	s.patches[id] = p
	return p, nil
}

// Sweep removes what is left of processes that are no more, of those that would
// be seen from here.
func (s *Store) Sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("sweep store: %w", err)
	}
	here, err := process.Namespaces()
	if err != nil {
		return err
	}
	var last process.ID // its files follow each other
	for _, e := range entries {
		var id process.ID
		if n, _ := fmt.Sscanf(e.Name(), "%d-%d.", &id.Pid, &id.Start); n != 2 || id == last {
			continue
		}
		if last = id; id.There() {
			continue
		}
		if ns, err := os.ReadFile(s.lockPath(id)); err == nil && string(ns) == here {
			s.Forget(id)
		}
	}
	return nil
}
