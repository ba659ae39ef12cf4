package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ticks is USER_HZ, the unit of times in /proc: 100 on x86 and arm64.
const ticks = 100

// patience is how long one process may take. A file system in user space
// (FUSE) can let whoever looks at a file wait for ever.
const patience = 10 * time.Second

// Options say what a scan does.
type Options struct {
	PIDs       []int  // only these; all when nil
	Cache      *Cache // identities from earlier scans; nil for none
	Identities bool   // read the identities of current modules too
	Packages   bool   // find the packages
}

// Scan lists the processes that execute ELF files, by PID. Kernel threads,
// and processes that end meanwhile, are left out; one that cannot be read has
// Err set. When ctx ends it returns what it has with ctx's error. It needs
// CAP_SYS_PTRACE, and CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
func Scan(ctx context.Context, opts Options) ([]Proc, error) {
	s, err := newScanner(opts)
	if err != nil {
		return nil, err
	}
	pids := opts.PIDs
	if pids == nil {
		if pids, err = listPIDs(); err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
	}
	todo := make(chan int)
	go func() {
		defer close(todo)
		for _, pid := range pids {
			select {
			case todo <- pid:
			case <-ctx.Done():
				return
			}
		}
	}()
	var (
		mu    sync.Mutex
		procs []Proc
		wg    sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for pid := range todo {
				if p, ok := s.patient(ctx, pid); ok {
					mu.Lock()
					procs = append(procs, p)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	slices.SortFunc(procs, func(a, b Proc) int { return cmp.Compare(a.PID, b.PID) })
	if opts.Packages && ctx.Err() == nil {
		s.packages(ctx, procs)
	}
	go s.close() // waits for those that still hang
	return procs, ctx.Err()
}

func listPIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// scanner is the state of one scan.
type scanner struct {
	Options
	mountNS uint64    // the caller's
	boot    time.Time // when the boot's clock was zero

	mu     sync.Mutex
	roots  map[rootKey]*root
	tops   map[uint64]*once[*root]     // mount namespace: its own root
	judged map[judgeKey]*once[verdict] // what has been found out, for the next process
	busy   sync.WaitGroup
}

// once is a result that several goroutines need and one finds.
type once[T any] struct {
	sync.Once
	v   T
	err error
}

func newScanner(opts Options) (*scanner, error) {
	if opts.Cache == nil {
		opts.Cache = &Cache{}
	}
	s := &scanner{
		Options: opts,
		roots:   make(map[rootKey]*root),
		tops:    make(map[uint64]*once[*root]),
		judged:  make(map[judgeKey]*once[verdict]),
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, fmt.Errorf("read the boot clock: %w", err)
	}
	s.boot = time.Now().Add(-time.Duration(now.Nano())).Round(0)
	self, err := openProc(os.Getpid())
	if err != nil {
		return nil, err
	}
	defer self.Close()
	if s.mountNS, err = self.mountNS(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *scanner) close() {
	s.busy.Wait()
	for _, r := range s.roots {
		r.dir.Close()
	}
	for _, o := range s.tops {
		if o.v != nil {
			o.v.dir.Close()
		}
	}
}

func (d procDir) mountNS() (uint64, error) { return d.namespace("ns/mnt") }

// namespace is the inode number that tells a namespace from others (namespaces(7)).
func (d procDir) namespace(name string) (uint64, error) {
	st, err := d.fstatat(name)
	return st.Ino, err
}

// patient scans a process, and leaves it when that takes too long.
func (s *scanner) patient(ctx context.Context, pid int) (Proc, bool) {
	type result struct {
		p  Proc
		ok bool
	}
	done := make(chan result, 1)
	s.busy.Add(1)
	go func() {
		defer s.busy.Done()
		p, ok := s.process(pid)
		done <- result{p, ok}
	}()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case r := <-done:
		return r.p, r.ok
	case <-ctx.Done():
		return Proc{}, false
	case <-timeout.C:
		return Proc{PID: pid, Err: fmt.Errorf("scan process %d: a file system does not answer within %v", pid, patience)}, true
	}
}

// process scans one process; false when it is not to be listed.
func (s *scanner) process(pid int) (Proc, bool) {
	p := Proc{PID: pid}
	d, err := openProc(pid)
	if err != nil {
		return p, false
	}
	defer d.Close()
	st, err := d.stat()
	if err == nil && st.flags&kernelThread != 0 {
		return p, false
	}
	if err == nil {
		p.PPID, p.Start, p.Comm = st.ppid, st.start, st.comm
		p.Started = s.boot.Add(time.Duration(st.start) * time.Second / ticks)
		err = s.describe(d, st, &p)
	}
	switch {
	case err == nil:
		return p, len(p.Modules) > 0
	case ended(err):
		now, gone := d.stat()
		if gone != nil || now.flags&exiting != 0 || now.state == 'Z' || now.state == 'X' {
			return p, false
		}
		err = fmt.Errorf("it changes faster than it can be read: %w", err)
	}
	p.Modules, p.Err = nil, fmt.Errorf("scan process %d: %w", pid, err)
	return p, true
}

func (d procDir) stat() (stat, error) {
	text, err := d.read("stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// describe fills in all but the first fields.
func (s *scanner) describe(d procDir, st stat, p *Proc) error {
	if st.state == 'Z' || st.state == 'X' {
		// The first thread may end before the others; then they hold the memory.
		t, err := d.liveThread()
		if err != nil {
			return err
		}
		defer t.Close()
		d = t
	}
	status, err := d.read("status")
	if err != nil {
		return err
	}
	if p.UID, err = parseUID(status); err != nil {
		return err
	}
	if p.MountNS, err = d.mountNS(); err != nil {
		return err
	}
	if p.userNS, err = d.namespace("ns/user"); err != nil {
		return err
	}
	p.OtherNS = p.MountNS != s.mountNS
	if cgroup, err := d.read("cgroup"); err == nil {
		p.Container = container(cgroup)
	}
	r, err := s.rootOf(d, p.MountNS)
	if err != nil {
		return err
	}
	p.Root = cmp.Or(r.path, "/")
	if exe, err := d.link("exe"); err == nil {
		p.Exe = exe
		if in, ok := r.inside(exe); ok {
			p.Exe = in
		}
	}
	// The process goes on and may unmap what its maps said.
	for range 3 {
		if p.Modules, err = s.modules(d, r); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

// liveThread is a thread of a process whose first thread has ended.
func (d procDir) liveThread() (procDir, error) {
	dir, err := d.open("task", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return procDir{}, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return procDir{}, err
	}
	for _, name := range names {
		tid, err := strconv.Atoi(name)
		if err != nil || tid == d.pid {
			continue
		}
		// /proc/TID is there for any thread, though not listed (proc(5)).
		if t, err := openProc(tid); err == nil {
			return t, nil
		}
	}
	return procDir{}, unix.ESRCH // a zombie
}

// rootOf opens a process's root, or finds that it is open already.
func (s *scanner) rootOf(d procDir, mountNS uint64) (*root, error) {
	r, err := d.root(mountNS)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.roots[r.key]; old != nil {
		return old, r.dir.Close()
	}
	s.roots[r.key] = r
	return r, nil
}

// topOf opens the root of a mount namespace, for files that lie outside the
// root of the process that has them mapped. It is that of any process there
// whose own root is not below it.
func (s *scanner) topOf(mountNS uint64) (*root, error) {
	s.mu.Lock()
	o := s.tops[mountNS]
	if o == nil {
		o = &once[*root]{}
		s.tops[mountNS] = o
	}
	s.mu.Unlock()
	o.Do(func() { o.v, o.err = findTop(mountNS) })
	return o.v, o.err
}

func findTop(mountNS uint64) (*root, error) {
	pids, err := listPIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range append([]int{os.Getpid()}, pids...) {
		d, err := openProc(pid)
		if err != nil {
			continue
		}
		r, err := func() (*root, error) {
			defer d.Close()
			if ns, err := d.mountNS(); err != nil || ns != mountNS {
				return nil, err
			}
			return d.root(mountNS)
		}()
		if err != nil || r == nil {
			continue
		}
		if r.path == "" {
			return r, nil
		}
		r.dir.Close()
	}
	return nil, errors.New("no process shows the root of the mount namespace")
}
