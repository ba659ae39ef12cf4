package cfi

import (
	"errors"
	"fmt"
)

// LSDA is one language-specific data area of .gcc_except_table (the format of
// GCC, read by __gxx_personality_v0; "Itanium C++ ABI: Exception Handling", 7).
type LSDA struct {
	Start, End uint64  // image addresses, from the header to the last byte that an unwinder may read
	LPStart    Pointer // what landing pads count from; Enc 0xff: the function's start
	TypeEnc    byte    // of Types; 0xff: no table
	Sites      []CallSite
	// Types are the type pointers, type index 1 first; Value 0 stands for
	// catch (...). Off counts from the start of the data given to ParseLSDA.
	Types []Pointer
	// Actions are the bytes of the action table and Specs those of the exception
	// specifications, as far as call sites lead to them.
	Actions, Specs []byte
}

// CallSite is a range of code and where exceptions thrown in it go.
type CallSite struct {
	Start, End uint64 // image addresses
	Pad        uint64 // landing pad, 0: none, the exception passes
	Action     uint64 // 0: cleanup only; otherwise 1 + offset in the action table
}

// ParseLSDA reads the area at image address lsda from data, which lies at addr,
// for the FDE that starts at funcStart. How many types there are follows from
// the action records that call sites lead to, and from the exception
// specifications that these name. Copying Start to End to another place of
// the same alignment (modulo 4) keeps the area valid when the pcrel fields
// among LPStart and Types are corrected. Anything malformed is an error.
func ParseLSDA(data []byte, addr, lsda, funcStart uint64) (LSDA, error) {
	if lsda < addr || lsda-addr >= uint64(len(data)) {
		return LSDA{}, fmt.Errorf("parse LSDA at %#x: outside the data at %#x", lsda, addr)
	}
	r := lsdaReader{c: cursor{b: data, off: int(lsda - addr)}, addr: addr, funcStart: funcStart, out: LSDA{Start: lsda}}
	if err := r.read(); err != nil {
		return LSDA{}, fmt.Errorf("parse LSDA at %#x: offset %#x: %w", lsda, r.c.off, err)
	}
	r.out.End = addr + uint64(r.end)
	return r.out, nil
}

type lsdaReader struct {
	c               cursor
	addr, funcStart uint64
	out             LSDA
	actions         int // offset of the action table
	types           int // offset where the type table ends and specifications begin
	maxType         uint64
	end             int          // offset of the end of what was read
	seen            map[int]bool // action records and specifications
}

// reach extends the area to the offset.
func (r *lsdaReader) reach(off int) { r.end = max(r.end, off) }

func (r *lsdaReader) read() error {
	c := &r.c
	r.out.LPStart = c.pointer(c.u8(), r.addr)
	r.out.TypeEnc = c.u8()
	if r.out.TypeEnc != encOmit {
		size := c.uleb()
		if size > uint64(len(c.b)-c.off) {
			c.fail(fmt.Errorf("type table: %w", errTruncated))
		}
		r.types = c.off + int(size)
	}
	if err := r.sites(); err != nil {
		return err
	}
	r.reach(r.actions)
	r.seen = map[int]bool{}
	for _, s := range r.out.Sites {
		if s.Action == 0 {
			continue
		}
		if err := r.action(s.Action - 1); err != nil {
			return err
		}
	}
	return r.typeTable()
}

// sites reads the call-site table.
func (r *lsdaReader) sites() error {
	c := &r.c
	enc := c.u8()
	size := c.uleb()
	if c.err == nil && size > uint64(len(c.b)-c.off) {
		c.fail(fmt.Errorf("call sites: %w", errTruncated))
	}
	if c.err == nil && (enc == encOmit || enc&0xf0 != 0) {
		c.fail(fmt.Errorf("call-site encoding %#x", enc))
	}
	if c.err != nil {
		return c.err
	}
	r.actions = c.off + int(size)
	base := r.funcStart
	if r.out.LPStart.Enc != encOmit {
		base = r.out.LPStart.Value
		if r.out.LPStart.Indirect {
			return errors.New("indirect landing pad base")
		}
	}
	t := cursor{b: c.b[:r.actions], off: c.off}
	for t.off < r.actions {
		start, length, pad, action := t.encoded(enc), t.encoded(enc), t.encoded(enc), t.uleb()
		s := CallSite{Start: r.funcStart + start, Action: action}
		s.End = s.Start + length
		if pad != 0 {
			s.Pad = base + pad
		}
		if t.err == nil && (s.Start < r.funcStart || s.End < s.Start) {
			t.fail(fmt.Errorf("call site at %#x of %#x bytes", s.Start, length))
		}
		if c.off = t.off; t.err != nil {
			return t.err
		}
		r.out.Sites = append(r.out.Sites, s)
	}
	return nil
}

// action follows a chain of action records from an offset in the action table.
func (r *lsdaReader) action(off uint64) error {
	c := &r.c
	limit := len(c.b)
	if r.out.TypeEnc != encOmit {
		limit = r.types
	}
	if off >= uint64(limit-r.actions) || limit < r.actions {
		return fmt.Errorf("action %#x outside the table", off)
	}
	for at := r.actions + int(off); !r.seen[at]; {
		r.seen[at] = true
		t := cursor{b: c.b[:limit], off: at}
		filter := t.sleb()
		from := t.off
		next := t.sleb()
		if c.off = at; t.err != nil {
			return t.err
		}
		r.reach(t.off)
		r.out.Actions = c.b[r.actions:max(t.off, r.actions+len(r.out.Actions))]
		if filter != 0 && r.out.TypeEnc == encOmit {
			return fmt.Errorf("filter %d without a type table", filter)
		}
		if filter > 0 {
			r.maxType = max(r.maxType, uint64(filter))
		} else if filter < 0 {
			if err := r.specification(uint64(-(filter + 1))); err != nil {
				return err
			}
		}
		if next == 0 {
			return nil
		}
		if next < int64(r.actions-from) || next >= int64(limit-from) {
			return fmt.Errorf("next action %d outside the table", next)
		}
		at = from + int(next)
	}
	return nil
}

// specification reads the list of type indices at an offset after the type table.
func (r *lsdaReader) specification(off uint64) error {
	c := &r.c
	if off >= uint64(len(c.b)-r.types) {
		return fmt.Errorf("exception specification %#x outside the data", off)
	}
	t := cursor{b: c.b, off: r.types + int(off)}
	for !r.seen[t.off] { // lists may share their ends
		r.seen[t.off] = true
		i := t.uleb()
		if t.err != nil || i == 0 {
			break
		}
		r.maxType = max(r.maxType, i)
	}
	r.reach(t.off)
	r.out.Specs = c.b[r.types:max(t.off, r.types+len(r.out.Specs))]
	c.off = t.off
	return t.err
}

// typeTable reads the type pointers, which end at r.types and go backward.
func (r *lsdaReader) typeTable() error {
	enc := r.out.TypeEnc
	if enc == encOmit {
		return nil
	}
	r.reach(r.types)
	size := fixedSize(enc)
	if r.maxType == 0 {
		return nil
	}
	if size == 0 || r.types < r.actions || r.maxType > uint64(r.types-r.actions)/uint64(size) {
		return fmt.Errorf("%d types of encoding %#x in %d bytes", r.maxType, enc, r.types-r.actions)
	}
	r.out.Types = make([]Pointer, r.maxType)
	for i := range r.out.Types {
		c := cursor{b: r.c.b, off: r.types - (i+1)*size}
		r.out.Types[i] = c.pointer(enc, r.addr)
		if c.err != nil {
			return c.err
		}
	}
	return nil
}
