package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"hotpatch/internal/module/cfi"
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// mapAll reserves the room of each overlay and maps the pieces in it, with the
// protection that they keep: a later mprotect to executable would be refused
// under prctl(PR_SET_MDWE).
func (t *txn) mapAll() error {
	if err := t.room(); err != nil {
		return err
	}
	var calls []remoteCall
	for _, u := range t.units {
		calls = append(calls, u.mmaps()...)
	}
	f := t.finder
	if f != nil && !f.Mapped {
		r := process.Range{Start: f.Page, End: f.Page + page}
		calls = append(calls, mmap("finder", r, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_FIXED_NOREPLACE))
	}
	if err := t.mapThese(calls); err != nil {
		return err
	}
	if f == nil || f.Mapped {
		return nil
	}
	f.Mapped = true
	return t.put(f.Page, f.page())
}

// room refuses where the memory cgroup of the process might not hold what the
// transaction adds: the kernel would kill a process of it for our write.
func (t *txn) room() error {
	const kernel = 128 << 10 // page tables, mappings, pages of the stack
	need := int64(kernel)
	for _, u := range t.units {
		pages := map[process.Addr]bool{}
		for _, s := range u.patch.Steers {
			pages[u.was(uint64(s.At))/page] = true
		}
		if t.opts.Retire {
			for _, b := range u.bodies() {
				need += int64(b.End-b.Start) + page
			}
		}
		need += int64(len(pages)) * page
		for i := range u.patch.Pieces {
			need += int64(len(u.patch.Pieces[i].Bytes))
		}
	}
	left, group, err := t.p.MemoryRoom()
	if err == nil && left < need {
		err = &Reason{Code: NoMemory, Detail: fmt.Sprintf("the memory cgroup %s has %d bytes left, %d are needed", group, max(left, 0), need)}
	}
	return err
}

// mmaps are the calls that map the unit's overlay.
func (u *unit) mmaps() []remoteCall {
	calls := []remoteCall{mmap("overlay", u.room, unix.PROT_NONE, unix.MAP_FIXED_NOREPLACE)}
	ps := u.patch.Pieces
	for i := 0; i < len(ps); {
		r := u.pieceRange(&ps[i])
		j := i + 1
		for ; j < len(ps) && ps[j].Prot == ps[i].Prot && u.pieceRange(&ps[j]).Start == r.End; j++ {
			r.End = u.pieceRange(&ps[j]).End
		}
		calls = append(calls, mmap("piece", r, protOf(ps[i].Prot), unix.MAP_FIXED))
		i = j
	}
	return calls
}

// mapThese maps anonymous memory. Where a security module forbids that for code
// (SELinux's execmem), it maps a file that is removed at once.
func (t *txn) mapThese(calls []remoteCall) error {
	forCode := func(c remoteCall) bool { return c.args[2]&unix.PROT_EXEC != 0 }
	for len(calls) > 0 {
		n, err := len(calls), error(nil)
		if t.inFiles {
			if i := slices.IndexFunc(calls, forCode); i >= 0 {
				n, err = i, unix.EACCES
			}
		}
		made, e := t.remote(calls[:n]...)
		if e != nil {
			err = e
		}
		for _, c := range calls[:made] {
			t.note(c)
		}
		if calls = calls[made:]; err == nil {
			return nil
		}
		if !errors.Is(err, unix.EACCES) || !forCode(calls[0]) {
			return err
		}
		if err := t.mapByName(calls[0], err); err != nil {
			return err
		}
		calls = calls[1:]
	}
	return nil
}

// note keeps what a call has mapped, for unmapMade.
func (t *txn) note(c remoteCall) {
	if c.args[3]&unix.MAP_FIXED_NOREPLACE == unix.MAP_FIXED_NOREPLACE {
		t.made = append(t.made, c.r)
	}
}

// mapByName maps a file where the call could not map anonymous memory, which
// the error says.
func (t *txn) mapByName(c remoteCall, err error) error {
	// The name of the file lies in its place until it is mapped.
	if _, e := t.remote(mmap("name of a file", c.r, unix.PROT_READ|unix.PROT_WRITE, c.args[3]&^anonymous)); e != nil {
		return e
	}
	t.note(c)
	like := t.units[0].mod.Maps[0]
	if i := slices.IndexFunc(t.units, func(u *unit) bool { return u.room.Contains(c.r.Start) }); i >= 0 {
		like = t.units[i].mod.Maps[0]
	}
	for _, dir := range []string{"/", "/run", "/tmp"} { // some are not writable there, or not for code
		e := t.mapFile(c.r, c.args[2], dir, like)
		if e == nil || !t.p.Alive() {
			return e
		}
		err = fmt.Errorf("%w; %w", err, e)
	}
	return &Reason{Code: Kernel, Detail: err.Error()}
}

// mapFile maps a file in place of what is mapped at r.
func (t *txn) mapFile(r process.Range, prot uint64, dir string, like process.Mapping) error {
	name, remove, err := t.p.PlaceFile(dir, r.End-r.Start, like)
	if err != nil {
		return err
	}
	defer remove()
	if err := t.put(r.Start, append([]byte(name), 0)); err != nil {
		return err
	}
	return t.borrowed(func(call process.Call) error {
		fd, err := call(unix.SYS_OPENAT, 0, uint64(r.Start), unix.O_RDONLY|unix.O_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open %s in the process: %w", name, err)
		}
		_, err = call(unix.SYS_MMAP, uint64(r.Start), uint64(r.End-r.Start), prot, unix.MAP_PRIVATE|unix.MAP_FIXED, fd, 0)
		if err != nil {
			err = fmt.Errorf("map %s: %w", name, err)
		}
		_, e := call(unix.SYS_CLOSE, fd)
		return errors.Join(err, e)
	})
}

// unmapMade undoes mapAll.
func (t *txn) unmapMade() error {
	for len(t.made) > 0 {
		r := t.made[len(t.made)-1]
		if _, err := t.remote(munmap(r)); err != nil {
			return err
		}
		if t.finder != nil && t.finder.Page == r.Start {
			t.finder.Mapped = false
		}
		t.made = t.made[:len(t.made)-1]
	}
	return nil
}

// writeAll fills what was mapped. Nothing leads there yet.
func (t *txn) writeAll() error {
	for i, u := range t.units {
		for j := range u.pieces {
			if err := t.put(u.at(uint64(u.patch.Pieces[j].Addr)), u.pieces[j]); err != nil {
				return err
			}
		}
		if t.finder != nil && u.patch.EHFrameHdr != 0 {
			if err := t.tellFinder(u, &t.rec.Pending[i]); err != nil {
				return err
			}
		}
		if err := t.putHeader(u, &t.rec.Pending[i]); err != nil {
			return err
		}
	}
	return t.store.Save(t.rec)
}

func (t *txn) putHeader(u *unit, r *UnitRecord) error {
	h, err := header(r, t.rec.Finder, int(u.patch.HeaderLen))
	if err != nil {
		return err
	}
	return t.put(u.header(), h)
}

func (t *txn) tellFinder(u *unit, r *UnitRecord) (err error) {
	r.Finder, err = t.finder.add(t.p, t.put, t.finderEntryOf(u))
	return err
}

// forgetFinder undoes tellFinder.
func (t *txn) forgetFinder() error {
	for i := range t.rec.Pending {
		if at := t.rec.Pending[i].Finder; at != 0 && t.finder != nil {
			if err := t.finder.remove(t.put, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes to memory, where need be as the tracer of a stopped thread.
func (t *txn) put(a process.Addr, b []byte) error {
	if err := t.p.Write(a, b); err == nil || !t.p.Alive() {
		return err
	}
	const inOneStop = 512
	for len(b) > 0 {
		n := min(inOneStop, len(b))
		err := t.p.Trace(func(tr *process.Tracer) error {
			if err := tr.StopOne(t.p.Pid, 10*t.opts.Budget); err != nil {
				return err
			}
			return tr.Write(a, b[:n])
		})
		if err != nil {
			return err
		}
		a, b = a+process.Addr(n), b[n:]
	}
	return nil
}

// The magics of headers, of patches in force and of those that are out of force
// and stay mapped.
const (
	headerMagic = "HOTPATCH"
	staysMagic  = "HPSTAYED"
)

type headerBody struct {
	Format int `json:"format"`
	UnitRecord
	FinderPage process.Addr `json:"finder_page,omitempty"`
}

// headerTail is what a header ends with: the magic, the length of the document
// at its start and its own length.
const headerTail = len(headerMagic) + 8

// header tells children of fork, which have no record of their own, what they
// inherited. It ends where the overlay's read-only pages end.
func header(r *UnitRecord, f *FinderRecord, size int) ([]byte, error) {
	h := headerBody{Format: 1, UnitRecord: *r}
	h.Path, h.Steers, h.Level, h.Draining, h.Replaced = "", nil, "", false, nil
	if f != nil && r.Finder != 0 {
		h.FinderPage = f.Page
	}
	js, err := json.Marshal(h)
	if err != nil || len(js) > size-headerTail {
		return nil, fmt.Errorf("write header: %d bytes do not fit (%w)", len(js), err)
	}
	b := make([]byte, size)
	copy(b, js)
	tail := b[size-headerTail:]
	if copy(tail, headerMagic); r.out {
		copy(tail, staysMagic)
	}
	binary.LittleEndian.PutUint32(tail[len(headerMagic):], uint32(len(js)))
	binary.LittleEndian.PutUint32(tail[len(headerMagic)+4:], uint32(size))
	return b, nil
}

// maxHeaders are more than there are ever patches in one process.
const maxHeaders = 256

// mayEndInHeader reports whether memory is such as the read-only pages of an
// overlay are in.
func mayEndInHeader(m *process.Mapping) bool {
	return m.Inode == 0 && m.Path == "" && m.Prot == process.Read
}

// HasHeader reports whether a process seems to have a patch in force, as children
// of patched processes do. It costs much less than Status.
func (e *Engine) HasHeader(pid int) bool {
	p, err := process.Open(pid, e.cache)
	if err != nil {
		return false
	}
	defer p.Close()
	maps, err := p.Maps()
	return err == nil && slices.ContainsFunc(maps, func(m process.Mapping) bool {
		if !mayEndInHeader(&m) {
			return false
		}
		h, ok := readHeader(p, m.End)
		return ok && !h.out
	})
}

// readHeader reads the header that ends at end, if there is one.
func readHeader(p *process.Process, end process.Addr) (h headerBody, ok bool) {
	const most = 1 << 20 // bytes
	var tail [headerTail]byte
	if p.Read(end-process.Addr(headerTail), tail[:]) != nil {
		return h, false
	}
	switch string(tail[:len(headerMagic)]) {
	case headerMagic:
	case staysMagic:
		h.out = true
	default:
		return h, false
	}
	n := binary.LittleEndian.Uint32(tail[len(headerMagic):])
	size := binary.LittleEndian.Uint32(tail[len(headerMagic)+4:])
	if size > most || n > size {
		return h, false
	}
	js := make([]byte, n)
	if p.Read(end-process.Addr(size), js) != nil || json.Unmarshal(js, &h) != nil || h.Format != 1 {
		return h, false
	}
	return h, true
}

// unwindTable is the overlay's own .eh_frame, found through its
// .eh_frame_hdr (LSB 5.0 Core, 10.6.2: version 1, encodings, then a 32-bit
// self-relative pointer to .eh_frame); nil when there is none that can be read.
func unwindTable(p *patch.Patch) *cfi.Table {
	if p.EHFrameHdr == 0 {
		return nil
	}
	bytesAt := func(a uint64) []byte {
		for i := range p.Pieces {
			if s := &p.Pieces[i]; a >= uint64(s.Addr) && a-uint64(s.Addr) < uint64(len(s.Bytes)) {
				return s.Bytes[a-uint64(s.Addr):]
			}
		}
		return nil
	}
	hdr := bytesAt(uint64(p.EHFrameHdr))
	if len(hdr) < 8 || hdr[0] != 1 || hdr[1] != 0x1b {
		return nil
	}
	at := uint64(p.EHFrameHdr) + 4 + uint64(int64(int32(binary.LittleEndian.Uint32(hdr[4:]))))
	data := bytesAt(at)
	end := 0
	for end+4 <= len(data) {
		n := int(binary.LittleEndian.Uint32(data[end:]))
		if n == 0 || n > len(data)-end-4 {
			break
		}
		end += 4 + n
	}
	t, err := cfi.Parse(data[:end], at)
	if err != nil {
		return nil
	}
	return t
}
