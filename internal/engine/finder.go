package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
	"hotpatch/internal/process"
)

// The finder makes exceptions, thread cancellation and backtraces cross new
// code. From glibc 2.35 on the unwinder of libgcc 12 and later asks
// _dl_find_object (dlfcn.h) which module a pc belongs to. Its entry is steered
// to a page of ours, which answers for overlays from a table and leaves
// everything else to the original. Neither takes a lock.

// finderName is the symbol that is steered.
const finderName = "_dl_find_object"

// FinderRecord is a finder in a process.
type FinderRecord struct {
	Page   process.Addr `json:"page"`
	Path   string       `json:"path"` // of the module that exports it
	Steer  SteerRecord  `json:"steer"`
	Code   []byte       `json:"code"`
	Mapped bool         `json:"mapped"` // the page is there; it stays
	Active bool         `json:"active"` // the entry is steered
}

func (f *FinderRecord) edit() edit {
	return edit{at: f.Steer.At, old: f.Steer.Old, new: f.Steer.New, name: finderName, module: f.Path}
}

const (
	finderTable = 256 // offset of the table in the page
	finderEntry = 32  // bytes: start, end, link map, .eh_frame_hdr
	finderMax   = (page-finderTable)/finderEntry - 1
	finderMagic = "HPFINDER" // the last bytes of the page
)

// findFinder looks for the function to steer.
func findFinder(p *process.Process, mods []loaded) (*loaded, elf.Symbol) {
	for i := range mods {
		for _, s := range mods[i].named(p, finderName) {
			if s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
				return &mods[i], s
			}
		}
	}
	return nil, elf.Symbol{}
}

// makeFinder makes a finder whose page is at place, or describes the one that
// is there. It refuses an entry that somebody else has changed.
func makeFinder(p *process.Process, m *loaded, sym elf.Symbol, place process.Addr) (*FinderRecord, error) {
	refuse := func(detail string) error {
		return &Reason{Code: EntryChanged, Function: finderName, Module: m.Name(), Detail: detail}
	}
	body, mem := make([]byte, min(sym.Size, 4096)), make([]byte, min(sym.Size, 4096))
	file, err := p.File(m.Module)
	if err != nil {
		return nil, err
	}
	entry := m.Bias + process.Addr(sym.Value)
	if err := file.ReadAddr(module.Addr(sym.Value), body); err != nil {
		return nil, err
	}
	if err := p.Read(entry, mem); err != nil {
		return nil, err
	}
	skip := 0
	if len(body) > 4 && binary.LittleEndian.Uint32(body) == 0xfa1e0ff3 { // endbr64
		skip = 4
	}
	if len(body) < skip+5 {
		return nil, refuse("too short")
	}
	from := entry + process.Addr(skip)
	code := finderCode()
	n, err := displace(body[skip:], from, place+process.Addr(len(code)), &code)
	if err != nil {
		return nil, refuse(err.Error())
	}
	if to, bad := branchInto(body, skip+1, skip+5); bad {
		return nil, refuse(fmt.Sprintf("a jump at +%#x leads into its entry", to))
	}
	back, ok := jump(place+process.Addr(len(code)), from+process.Addr(n))
	steer, ok2 := jump(from, place)
	code = append(code, back[:]...)
	if !ok || !ok2 || len(code) > finderTable {
		return nil, refuse("out of reach")
	}
	f := &FinderRecord{
		Page: place, Path: m.Path, Code: code,
		Steer: SteerRecord{Name: finderName, At: from, Old: [5]byte(body[skip:]), New: steer},
	}
	if string(mem) != string(body) {
		copy(body[skip:], steer[:])
		if f.Mapped, f.Active = true, true; string(mem) != string(body) {
			return nil, refuse("not what its file says")
		}
	}
	return f, nil
}

// finderCode is the lookup: pc in rdi, struct dl_find_object * in rsi (dlfcn.h:
// flags, map_start, map_end, link_map, eh_frame; 8 bytes each). The table ends
// with a start of 0; a removed entry has the highest start.
func finderCode() []byte {
	return []byte{
		0x48, 0x8d, 0x05, (finderTable - 7) & 0xff, (finderTable - 7) >> 8, 0, 0, //  0 lea table(%rip), %rax
		0x48, 0x8b, 0x10, //                            7 mov (%rax), %rdx
		0x48, 0x85, 0xd2, //                           10 test %rdx, %rdx
		0x74, 55, //                                   13 je 70: not ours
		0x48, 0x39, 0xd7, //                           15 cmp %rdx, %rdi
		0x72, 44, //                                   18 jb 64: next
		0x48, 0x8b, 0x48, 8, //                        20 mov 8(%rax), %rcx
		0x48, 0x39, 0xcf, //                           24 cmp %rcx, %rdi
		0x73, 35, //                                   27 jae 64: next
		0x48, 0x89, 0x56, 8, //                        29 mov %rdx, 8(%rsi)
		0x48, 0x89, 0x4e, 16, //                       33 mov %rcx, 16(%rsi)
		0x48, 0x8b, 0x48, 16, //                       37 mov 16(%rax), %rcx
		0x48, 0x89, 0x4e, 24, //                       41 mov %rcx, 24(%rsi)
		0x48, 0x8b, 0x48, 24, //                       45 mov 24(%rax), %rcx
		0x48, 0x89, 0x4e, 32, //                       49 mov %rcx, 32(%rsi)
		0x31, 0xc0, //                                 53 xor %eax, %eax
		0x48, 0x89, 0x06, //                           55 mov %rax, (%rsi)
		0xc3,                         //                           58 ret
		0xcc, 0xcc, 0xcc, 0xcc, 0xcc, //               59
		0x48, 0x83, 0xc0, finderEntry, //              64 add $32, %rax
		0xeb, 0xc1, //                                 68 jmp 7
		// 70: the displaced instructions follow
	}
}

// displace copies whole instructions, at least five bytes of them, from their
// place to another, and returns how many bytes they are.
func displace(body []byte, from, to process.Addr, out *[]byte) (int, error) {
	n := 0
	for n < 5 {
		in, err := x86.Decode(body[n:])
		if err != nil {
			return 0, err
		}
		b := append([]byte(nil), body[n:n+int(in.Len)]...)
		switch {
		case in.Kind == x86.Call, in.Kind == x86.CallInd:
			return 0, fmt.Errorf("a call at +%#x", n)
		case (in.Kind == x86.Ret || in.Kind == x86.Jmp || in.Kind == x86.JmpInd) && n+int(in.Len) < 5:
			return 0, fmt.Errorf("it ends after %d bytes", n+int(in.Len))
		}
		if in.Relative() {
			d := in.Disp + int64(from) - int64(to)
			if in.DispLen != 4 || d < math.MinInt32 || d > math.MaxInt32 {
				return 0, fmt.Errorf("the instruction at +%#x cannot be moved", n)
			}
			binary.LittleEndian.PutUint32(b[in.DispOff:], uint32(int32(d)))
		}
		*out = append(*out, b...)
		n += int(in.Len)
	}
	return n, nil
}

// branchInto looks for a direct branch that leads into [lo, hi) of a function.
func branchInto(body []byte, lo, hi int) (at int, found bool) {
	for at < len(body) {
		in, err := x86.Decode(body[at:])
		if err != nil {
			return at, true
		}
		if k := in.Kind; k == x86.Jmp || k == x86.Jcc || k == x86.Call {
			if to := int64(at) + int64(in.Len) + in.Disp; to >= int64(lo) && to < int64(hi) {
				return at, true
			}
		}
		at += int(in.Len)
	}
	return 0, false
}

// page is the finder's page without entries.
func (f *FinderRecord) page() []byte {
	b := make([]byte, page)
	copy(b, f.Code)
	copy(b[page-len(finderMagic):], finderMagic)
	return b
}

// tombstone is the start of an entry that was taken out.
const tombstone = ^uint64(0)

// finderEntryOf is a unit's entry in the table.
func (t *txn) finderEntryOf(u *unit) (b [finderEntry]byte) {
	var linkMap process.Addr
	for _, l := range t.order() {
		if l.Bias == u.mod.Bias {
			linkMap = l.linkMap
		}
	}
	for i, v := range []process.Addr{u.room.Start, u.room.End - page, linkMap, u.at(uint64(u.patch.EHFrameHdr))} {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	return b
}

// add makes an overlay known; its start is written last, so that a lookup sees
// the entry whole or not at all. It returns where the entry is.
func (f *FinderRecord) add(p *process.Process, put func(process.Addr, []byte) error, b [finderEntry]byte) (process.Addr, error) {
	for i := range finderMax {
		a := f.Page + finderTable + process.Addr(i)*finderEntry
		start, err := p.Word(a)
		if err != nil {
			return 0, err
		}
		if start != 0 && start != tombstone {
			continue
		}
		if err := put(a+8, b[8:]); err != nil {
			return 0, err
		}
		return a, put(a, b[:8])
	}
	return 0, &Reason{Code: Conflict, Function: finderName, Detail: "too many patches in one process"}
}

// remove takes an entry out, its start first.
func (f *FinderRecord) remove(put func(process.Addr, []byte) error, at process.Addr) error {
	b := finderGone()
	if err := put(at, b[:8]); err != nil {
		return err
	}
	return put(at+8, b[8:])
}

func finderGone() (b [finderEntry]byte) {
	binary.LittleEndian.PutUint64(b[:], tombstone)
	return b
}

// verifyFinder compares the finder's page and entry with what they must be.
func (t *txn) verifyFinder(units []*unit) error {
	f := t.rec.Finder
	if f == nil || !f.Active {
		return nil
	}
	want, got := f.page(), make([]byte, page)
	if err := t.p.Read(f.Page, got); err != nil {
		return err
	}
	known := t.finderEntries(append(t.unitsOf(t.rec.Stays), units...))
	for i := range finderMax {
		off := finderTable + i*finderEntry
		gone := finderGone()
		if e, ok := known[f.Page+process.Addr(off)]; ok {
			copy(want[off:], e[:])
		} else if b := got[off : off+finderEntry]; bytes.Equal(b, gone[:]) {
			copy(want[off:], b)
		}
	}
	if k := firstDifference(want, got); k >= 0 {
		return &Reason{Code: Differs, Function: finderName, Detail: fmt.Sprintf("finder, +%#x: expected %02x, found %02x", k, want[k], got[k])}
	}
	b, err := t.bytesAt(f.Steer.At)
	if err == nil && b != f.Steer.New {
		err = &Reason{Code: Differs, Function: finderName, Module: f.Path, Detail: fmt.Sprintf("entry: expected % x, found % x", f.Steer.New, b)}
	}
	return err
}

// intact compares the finder's code with what it must be, without its table.
func (f *FinderRecord) intact(p *process.Process) error {
	want, got := f.page()[:finderTable], make([]byte, finderTable)
	if err := p.Read(f.Page, got); err != nil {
		return err
	}
	if k := firstDifference(want, got); k >= 0 {
		return &Reason{Code: Differs, Function: finderName, Detail: fmt.Sprintf("finder, +%#x: expected %02x, found %02x", k, want[k], got[k])}
	}
	return nil
}

// finderEntries are the entries of units by their places.
func (t *txn) finderEntries(units []*unit) map[process.Addr][finderEntry]byte {
	out := map[process.Addr][finderEntry]byte{}
	for _, u := range units {
		if u.rec.Finder != 0 {
			out[u.rec.Finder] = t.finderEntryOf(u)
		}
	}
	return out
}

// scrubFinder takes out what a run that was cut off left in the table.
func (t *txn) scrubFinder() error {
	f := t.rec.Finder
	if f == nil || !f.Mapped {
		return nil
	}
	known := t.finderEntries(t.unitsOf(slices.Concat(t.rec.Units, t.rec.Stays)))
	for i := range finderMax {
		at := f.Page + finderTable + process.Addr(i)*finderEntry
		var b [finderEntry]byte
		if err := t.p.Read(at, b[:]); err != nil {
			return err
		}
		if _, ok := known[at]; ok || b == [finderEntry]byte{} || b == finderGone() {
			continue
		}
		if err := f.remove(t.put, at); err != nil {
			return err
		}
	}
	return nil
}

// firstDifference is the first offset at which two slices of one length differ, or -1.
func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}
