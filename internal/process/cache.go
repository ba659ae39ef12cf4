package process

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
)

// Cache keeps what was read from mapped files, for many processes. It may be
// used by several goroutines.
type Cache struct {
	mu    sync.Mutex
	files map[fileKey]*file
}

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{files: make(map[fileKey]*file)} }

// fileKey says that a file is one seen before. It is of the opened file: the
// numbers in /proc/PID/maps are others on btrfs and overlayfs.
type fileKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// file is what is known of one mapped file.
type file struct {
	table *cfi.Table // nil: none
	entry uint64
	syms  []elf.Symbol // functions, sorted by address
	load  []elf.ProgHeader
	id    module.Identity
	idErr error
	idOK  bool
}

// open returns what is known of the module's file; it reads the file the
// first time.
func (c *Cache) open(p *Process, m *Module) (*file, error) {
	if m.Path == "[vdso]" {
		return readFile(io.NewSectionReader(p.mem, int64(m.Maps[0].Start), int64(m.Maps[0].End-m.Maps[0].Start)))
	}
	f, err := p.OpenMapped(m.Maps[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	key, err := keyOf(f)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.files[key]; e != nil {
		return e, nil
	}
	e, err := readFile(f)
	if err == nil {
		c.files[key] = e
	}
	return e, err
}

func keyOf(f *os.File) (fileKey, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileKey{}, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return fileKey{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// Identity returns which build a mapped module is, from its file as it is
// mapped, even when that is deleted.
func (p *Process) Identity(m *Module) (module.Identity, error) {
	e, err := p.cache.open(p, m)
	if err != nil {
		return module.Identity{}, err
	}
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	if !e.idOK {
		f, err := p.OpenMapped(m.Maps[0])
		if err != nil {
			return module.Identity{}, err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return module.Identity{}, fmt.Errorf("stat %s: %w", m.Path, err)
		}
		e.id, e.idErr = module.ReadIdentity(f, st.Size())
		e.idOK = true
	}
	return e.id, e.idErr
}

func readFile(r io.ReaderAt) (*file, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	e := &file{entry: f.Entry}
	for _, ph := range f.Progs {
		if ph.Type == elf.PT_LOAD {
			e.load = append(e.load, ph.ProgHeader)
		}
	}
	if s := f.Section(".eh_frame"); s != nil && s.Type != elf.SHT_NOBITS {
		if data, err := s.Data(); err == nil {
			// Without a table, stacks through this module are searched word by word.
			e.table, _ = cfi.Parse(data, s.Addr)
		}
	}
	for _, read := range []func() ([]elf.Symbol, error){f.Symbols, f.DynamicSymbols} {
		syms, err := read()
		if err != nil {
			continue
		}
		for _, s := range syms {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF {
				e.syms = append(e.syms, s)
			}
		}
	}
	sort.SliceStable(e.syms, func(i, j int) bool { return e.syms[i].Value < e.syms[j].Value })
	return e, nil
}

// name is the function at an image address, with the offset in it; empty when
// no symbol covers it.
func (e *file) name(a uint64) string {
	i := sort.Search(len(e.syms), func(i int) bool { return e.syms[i].Value > a })
	for i--; i >= 0; i-- {
		if s := e.syms[i]; a < s.Value+s.Size {
			return fmt.Sprintf("%s+%#x", s.Name, a-s.Value)
		} else if a-s.Value > 1<<20 {
			break
		}
	}
	return ""
}
