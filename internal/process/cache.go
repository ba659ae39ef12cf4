package process

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"runtime"
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
)

// Cache keeps what is the same for many processes. It may be used by several
// goroutines.
type Cache struct {
	mu          sync.Mutex
	files       map[fileKey]*File
	size        int64            // of the tables of files, bytes
	vdsos       map[string]*File // by their bytes
	spots       map[spotKey]Gadgets
	hierarchies func() ([]hierarchy, error)
	rooms       rooms
	peers       peers
	tracing     *tracing
}

// Bounds on what is read and kept.
const (
	mostFiles = 256       // kept, each with a descriptor
	maxCached = 1 << 30   // bytes of the tables of all that are kept
	maxUnwind = 128 << 20 // bytes of .eh_frame of one
	maxHashed = 16 << 30  // bytes of the files of one process whose identity is read
)

// NewCache returns an empty cache.
func NewCache() *Cache {
	c := &Cache{
		files: make(map[fileKey]*File), vdsos: make(map[string]*File), spots: make(map[spotKey]Gadgets),
		hierarchies: sync.OnceValues(memoryHierarchies), tracing: &tracing{},
	}
	runtime.AddCleanup(c, (*tracing).end, c.tracing)
	return c
}

// fileKey says that a file is one seen before. It is of the opened file: the
// numbers in /proc/PID/maps are others on btrfs and overlayfs.
type fileKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// File is a mapped file, even a deleted one, as it is on disk. It is read once
// for all processes that have it mapped.
type File struct {
	*elf.File
	io.ReaderAt            // its bytes
	length      int64      // bytes
	size        int64      // of its tables, bytes
	table       *cfi.Table // nil: none
	funcs       []elf.Symbol
	dynamic     func() []elf.Symbol
	named       func() map[string][]elf.Symbol
	identity    func() (module.Identity, error)
}

// File returns the module's file.
func (p *Process) File(m *Module) (*File, error) {
	if m.file != nil {
		return m.file, nil
	}
	f, err := p.cache.open(p, m)
	if err != nil {
		return nil, err
	}
	m.file = f
	return f, nil
}

func (c *Cache) open(p *Process, m *Module) (*File, error) {
	if m.Path == "[vdso]" {
		return c.openVDSO(p, m)
	}
	// A file that is known need not be opened.
	var st unix.Stat_t
	if unix.Fstatat(p.dir, m.Maps[0].name(), &st, 0) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.mu.Lock()
		e := c.files[keyOf(&st)]
		c.mu.Unlock()
		if e != nil {
			return e, nil
		}
	}
	f, err := p.OpenMapped(m.Maps[0])
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	key := keyOf(&st)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.files[key]; e != nil {
		return e, f.Close()
	}
	e, err := readFile(f, key.size)
	if err != nil {
		f.Close()
		return nil, err
	}
	if c.size += e.size; len(c.files) >= mostFiles || c.size > maxCached {
		clear(c.files) // whoever uses one of them has it open yet
		c.size = e.size
	}
	c.files[key] = e
	return e, nil
}

// openVDSO reads it from memory: it is the same in most processes.
func (c *Cache) openVDSO(p *Process, m *Module) (*File, error) {
	const most = 64 << 10
	b := make([]byte, min(most, m.Maps[0].End-m.Maps[0].Start))
	if err := p.Read(m.Maps[0].Start, b); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.vdsos[string(b)]; e != nil {
		return e, nil
	}
	e, err := readFile(bytes.NewReader(b), int64(len(b)))
	if err == nil {
		if len(c.vdsos) >= mostFiles {
			clear(c.vdsos)
		}
		c.vdsos[string(b)] = e
	}
	return e, err
}

func keyOf(st *unix.Stat_t) fileKey {
	return fileKey{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
}

// Identity returns which build a mapped module is, from its file.
func (p *Process) Identity(m *Module) (module.Identity, error) {
	f, err := p.File(m)
	if err != nil {
		return module.Identity{}, err
	}
	if !p.hashed[f] {
		p.hashed[f] = true
		p.toHash += f.length
	}
	if p.toHash > maxHashed {
		return module.Identity{}, fmt.Errorf("read the modules of process %d: %w", p.Pid, ErrTooLarge)
	}
	return f.identity()
}

func readFile(r io.ReaderAt, size int64) (*File, error) {
	f, err := module.ELF(r, size)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	e := &File{File: f, ReaderAt: r, length: size}
	e.identity = sync.OnceValues(func() (module.Identity, error) { return module.ReadIdentity(r, size) })
	e.dynamic = sync.OnceValue(func() []elf.Symbol {
		syms, _ := f.DynamicSymbols()
		return syms
	})
	e.named = sync.OnceValue(func() map[string][]elf.Symbol {
		byName := make(map[string][]elf.Symbol)
		for _, s := range e.dynamic() {
			byName[s.Name] = append(byName[s.Name], s)
		}
		return byName
	})
	if s := f.Section(".eh_frame"); s != nil && s.Type != elf.SHT_NOBITS && s.Flags&elf.SHF_COMPRESSED == 0 && s.Size <= maxUnwind {
		e.size = int64(s.Size)
		if data, err := s.Data(); err == nil {
			// Without a table, stacks through this module are searched word by word.
			e.table, _ = cfi.Parse(data, s.Addr)
		}
	}
	syms, _ := f.Symbols()
	for _, s := range append(syms, e.dynamic()...) {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF {
			e.funcs = append(e.funcs, s)
		}
	}
	e.size += int64(len(e.funcs)) * elf.Sym64Size
	sort.SliceStable(e.funcs, func(i, j int) bool { return e.funcs[i].Value < e.funcs[j].Value })
	return e, nil
}

// Dynamic are its dynamic symbols, without the first, which is none.
func (f *File) Dynamic() []elf.Symbol { return f.dynamic() }

// Named are the dynamic symbols of a name, undefined ones too.
func (f *File) Named(name string) []elf.Symbol { return f.named()[name] }

// ReadAddr fills b with the file's bytes for an image address.
func (f *File) ReadAddr(a module.Addr, b []byte) error {
	for _, ph := range f.Progs {
		if off := uint64(a) - ph.Vaddr; ph.Type == elf.PT_LOAD && uint64(a) >= ph.Vaddr && off < ph.Filesz && ph.Filesz-off >= uint64(len(b)) {
			_, err := ph.ReadAt(b, int64(off))
			return err
		}
	}
	return fmt.Errorf("read %d bytes at %v: not in the file", len(b), a)
}

// name is the function at an image address, with the offset in it; empty when
// no symbol covers it.
func (f *File) name(a uint64) string {
	i := sort.Search(len(f.funcs), func(i int) bool { return f.funcs[i].Value > a })
	for i--; i >= 0; i-- {
		if s := f.funcs[i]; a < s.Value+s.Size {
			return fmt.Sprintf("%s+%#x", s.Name, a-s.Value)
		} else if a-s.Value > 1<<20 {
			break
		}
	}
	return ""
}
