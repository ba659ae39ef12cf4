package check

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// cie is what frames have in common; frame the call-frame information of one
// range (LSB 5.0 Core, 10.6.1).
type cie struct {
	codeAlign, ra uint64
	dataAlign     int64
	persEnc       byte
	pers, persAt  uint64 // 0: none; where it leads and where it is kept
	lsdaEnc, enc  byte
	signal        bool
	rules         []byte
	form          form
}

type frame struct {
	*cie
	at         uint64
	start, end uint64
	lsda       uint64
	rules      []byte
	form       form
}

// form is what says nothing, and yet has to be as it should.
type form struct {
	size   uint64 // of the entry
	unread int    // bytes of its augmentation that mean nothing
	pad    int    // bytes behind its rules
}

// The pointer encodings of unwind tables (LSB 5.0 Core, 10.5.1).
const (
	encOmit, encIndirect, encPCRel = 0xff, 0x80, 0x10
)

var errFrames = errors.New("malformed unwind tables")

// reader reads bytes that lie at an address.
type reader struct {
	b    []byte
	at   uint64
	fail bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail = true
		n = uint64(len(r.b))
		r.at, r.b = r.at+n, nil
		return make([]byte, 8)
	}
	b := r.b[:n]
	r.b, r.at = r.b[n:], r.at+n
	return b
}

// sub is a reader of the next n bytes alone.
func (r *reader) sub(n uint64) reader {
	at := r.at
	return reader{at: at, b: r.take(n)}
}

func (r *reader) byte() byte  { return r.take(1)[0] }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) uleb() uint64 {
	var v uint64
	for shift := uint(0); !r.fail; shift += 7 {
		b := r.byte()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			break
		}
	}
	return v
}

func (r *reader) sleb() int64 {
	var v int64
	for shift := uint(0); !r.fail; {
		b := r.byte()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		shift += 7
		if b&0x80 == 0 {
			if b&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			break
		}
	}
	return v
}

// pointer reads an encoded pointer: 0 stays 0, whatever it is relative to.
func (r *reader) pointer(enc byte) uint64 {
	if enc == encOmit {
		return 0
	}
	at, v := r.at, uint64(0)
	switch enc & 0x0f {
	case 0x00, 0x04, 0x0c:
		v = r.u64()
	case 0x01:
		v = r.uleb()
	case 0x02:
		v = uint64(binary.LittleEndian.Uint16(r.take(2)))
	case 0x03:
		v = uint64(r.u32())
	case 0x09:
		v = uint64(r.sleb())
	case 0x0a:
		v = uint64(int64(int16(binary.LittleEndian.Uint16(r.take(2)))))
	case 0x0b:
		v = uint64(int64(int32(r.u32())))
	default:
		r.fail = true
	}
	if v != 0 && enc&0x70 == encPCRel {
		v += at
	}
	return v
}

// readFrames reads .eh_frame: b lies at address at.
func readFrames(b []byte, at uint64) ([]*frame, error) {
	var out []*frame
	cies := make(map[uint64]*cie)
	r := reader{b: b, at: at}
	for len(r.b) >= 4 {
		start := r.at
		n := uint64(r.u32())
		if n == 0 {
			break
		}
		if n == 0xffffffff || n > uint64(len(r.b)) || n < 4 {
			return nil, fmt.Errorf("%w: entry at %#x", errFrames, start)
		}
		e := r.sub(n)
		idAt := e.at
		id := uint64(e.u32())
		if id == 0 {
			cies[start] = e.cie()
			cies[start].form.size = n
		} else {
			c := cies[idAt-id]
			if c == nil {
				return nil, fmt.Errorf("%w: entry at %#x names no CIE", errFrames, start)
			}
			out = append(out, e.frame(c, start))
			out[len(out)-1].form.size = n
		}
		if e.fail {
			return nil, fmt.Errorf("%w: entry at %#x", errFrames, start)
		}
	}
	return out, nil
}

func (r *reader) cie() *cie {
	c := &cie{persEnc: encOmit, lsdaEnc: encOmit}
	version := r.byte()
	var aug []byte
	for ch := r.byte(); ch != 0 && !r.fail; ch = r.byte() {
		aug = append(aug, ch)
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if c.ra = uint64(r.byte()); version != 1 || len(aug) == 0 || aug[0] != 'z' {
		r.fail = true
		return c
	}
	n := r.uleb()
	a := r.sub(n)
	for _, ch := range aug[1:] {
		switch ch {
		case 'P':
			c.persEnc = a.byte()
			c.persAt = a.at
			c.pers = a.pointer(c.persEnc)
		case 'L':
			c.lsdaEnc = a.byte()
		case 'R':
			c.enc = a.byte()
		case 'S':
			c.signal = true
		default:
			a.fail = true
		}
	}
	r.fail = r.fail || a.fail
	c.rules = trimRules(r.b)
	c.form = form{unread: len(a.b), pad: len(r.b) - len(c.rules)}
	return c
}

func (r *reader) frame(c *cie, at uint64) *frame {
	f := &frame{cie: c, at: at}
	f.start = r.pointer(c.enc)
	f.end = f.start + r.pointer(c.enc&0x0f)
	n := r.uleb()
	a := r.sub(n)
	if c.lsdaEnc != encOmit && n > 0 {
		f.lsda = a.pointer(c.lsdaEnc)
	}
	r.fail = r.fail || a.fail || f.end < f.start
	f.rules = trimRules(r.b)
	f.form = form{unread: len(a.b), pad: len(r.b) - len(f.rules)}
	return f
}

// trimRules cuts the padding of an entry: DW_CFA_nop at its end.
func trimRules(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// like reports whether an entry is formed as the one that it stands for.
func (f form) like(want form) bool {
	const unit = 8 // entries are padded to it
	return f.size%4 == 0 && f.unread == want.unread && f.pad < want.pad+unit
}

// handlers is an exception table, read.
type handlers struct {
	sites   []site
	filters map[uint64][]int64 // by action: what it catches, in order
	based   bool               // landing pads do not count from the start of the range
	typeEnc byte
	types   []typeEntry // by filter, from 1
	specs   []byte      // exception specifications, behind the types
}

// site is where a call lies in a range, and what happens when it throws.
type site struct{ start, size, pad, action uint64 }

type typeEntry struct{ at, value uint64 }

// readHandlers reads the exception table at the start of r (Itanium C++ ABI,
// Exception Handling, 7).
func readHandlers(r reader) (*handlers, error) {
	h := &handlers{typeEnc: encOmit, filters: make(map[uint64][]int64)}
	all := r
	if enc := r.byte(); enc != encOmit {
		h.based = true
		r.pointer(enc)
	}
	var types uint64
	if h.typeEnc = r.byte(); h.typeEnc != encOmit {
		n := r.uleb()
		types = r.at + n
	}
	enc := r.byte()
	n := r.uleb()
	sites := r.sub(n)
	most, least := int64(0), int64(0)
	for len(sites.b) > 0 && !sites.fail && !r.fail {
		s := site{start: sites.pointer(enc & 0x0f)}
		s.size = sites.pointer(enc & 0x0f)
		s.pad = sites.pointer(enc & 0x0f)
		s.action = sites.uleb()
		h.sites = append(h.sites, s)
		if _, ok := h.filters[s.action]; ok || s.action == 0 {
			continue
		}
		h.filters[s.action] = r.actions(s.action - 1)
		for _, f := range h.filters[s.action] {
			most, least = max(most, f), min(least, f)
		}
	}
	if r.fail || sites.fail {
		return nil, errFrames
	}
	if h.typeEnc != encOmit && most|least != 0 {
		if types < r.at || types-all.at > uint64(len(all.b)) || !h.readTypes(&all, types, most, least) {
			return nil, errFrames
		}
	}
	return h, nil
}

// actions follows a chain of actions to its filters.
func (r *reader) actions(o uint64) (filters []int64) {
	const most = 1 << 12
	for len(filters) < most && o < uint64(len(r.b)) {
		a := reader{at: r.at + o, b: r.b[o:]}
		filter := a.sleb()
		at := a.at
		next := a.sleb()
		r.fail = r.fail || a.fail
		filters = append(filters, filter)
		if next == 0 || r.fail {
			return filters
		}
		o = at + uint64(next) - r.at
	}
	r.fail = true
	return filters
}

func sizeOf(enc byte) int {
	switch enc & 0x0f {
	case 0x02, 0x0a:
		return 2
	case 0x03, 0x0b:
		return 4
	case 0x00, 0x04, 0x0c:
		return 8
	}
	return 0
}

// readTypes reads the types, which lie backwards before types, and the
// specifications behind it.
func (h *handlers) readTypes(all *reader, types uint64, most, least int64) bool {
	size := uint64(sizeOf(h.typeEnc))
	specs := all.b[types-all.at:]
	for f := least; f < 0; f++ {
		if uint64(-f) > uint64(len(specs)) {
			return false
		}
		s := reader{b: specs[-f-1:]}
		for i := s.uleb(); i != 0 && !s.fail; i = s.uleb() {
			most = max(most, int64(min(i, 1<<20)))
		}
		if s.fail {
			return false
		}
		if n := len(specs) - len(s.b); n > len(h.specs) {
			h.specs = specs[:n]
		}
	}
	if size == 0 || uint64(most) > (types-all.at)/size {
		return false
	}
	for i := uint64(1); i <= uint64(most); i++ {
		at := types - i*size
		t := reader{at: at, b: all.b[at-all.at:]}
		h.types = append(h.types, typeEntry{at, t.pointer(h.typeEnc)})
	}
	return true
}
