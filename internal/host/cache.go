package host

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module"
)

const (
	maxModule = 4 << 30 // bytes of a file whose identity is read
	maxCached = 1 << 16 // identities kept
	// settled is how long after its last change a file's times tell any
	// further change: file systems count some milliseconds, a few seconds.
	settled = 2 * time.Second
)

// fileKey is a version of a file, taken from an open descriptor.
type fileKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func keyOf(st *unix.Stat_t) fileKey {
	return fileKey{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
}

// A Cache remembers the identities of files between scans. The zero value is
// ready; it may be used from several scans at once.
type Cache struct {
	mu      sync.Mutex
	entries map[fileKey]*cacheEntry
}

type cacheEntry struct {
	once  sync.Once
	id    module.Identity
	err   error
	until time.Time // zero: for ever
}

// errUnusable is of a file that could be read, and is no program or library.
var errUnusable = errors.New("no usable ELF file")

// identity reads which build an O_PATH descriptor of a regular file is. The
// error is errUnusable for other files.
func (c *Cache) identity(f *os.File, st *unix.Stat_t) (module.Identity, error) {
	key := keyOf(st)
	c.mu.Lock()
	e := c.entries[key]
	if e != nil && !e.until.IsZero() && time.Now().After(e.until) {
		e = nil
	}
	if e == nil {
		if c.entries == nil || len(c.entries) >= maxCached {
			c.entries = make(map[fileKey]*cacheEntry)
		}
		e = &cacheEntry{}
		now := time.Now()
		if now.Sub(time.Unix(st.Ctim.Unix())) < settled {
			e.until = now.Add(settled)
		}
		c.entries[key] = e
	}
	c.mu.Unlock()
	e.once.Do(func() {
		if e.id, e.err = identify(f, key); e.err != nil {
			c.mu.Lock()
			if c.entries[key] == e {
				delete(c.entries, key)
			}
			c.mu.Unlock()
		}
	})
	return e.id, e.err
}

func identify(f *os.File, key fileKey) (module.Identity, error) {
	if key.size > maxModule {
		return module.Identity{}, fmt.Errorf("%s is larger than %d bytes", f.Name(), int64(maxModule))
	}
	r, err := reopen(f)
	if err != nil {
		return module.Identity{}, err
	}
	defer r.Close()
	id, err := module.ReadIdentity(r, key.size)
	if err != nil {
		if !errors.As(err, new(*os.PathError)) {
			err = fmt.Errorf("%w: %w", errUnusable, err)
		}
		return module.Identity{}, err
	}
	st, err := fstat(r)
	if err == nil && keyOf(&st) != key {
		err = fmt.Errorf("%s changed while it was read", f.Name())
	}
	return id, err
}
