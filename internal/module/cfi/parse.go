package cfi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Parse reads a whole .eh_frame section that lies at image address addr.
// The table keeps data. Terminators within the section are stepped over, as the
// binary search table may lead to what follows them. FDEs that cover nothing
// (of functions the linker discarded: start or length 0) are left out;
// ranges that overlap are an error.
// The format is that of LSB 5.0 Core, 10.6; an error names the offset.
func Parse(data []byte, addr uint64) (*Table, error) {
	t := &Table{Addr: addr, Data: data, FDEs: make([]FDE, 0, len(data)/40)}
	cies := map[int]*CIE{}
	for off := 0; off < len(data); {
		next, err := t.entry(off, cies)
		if err != nil {
			return nil, fmt.Errorf("parse .eh_frame entry at offset %#x: %w", off, err)
		}
		off = next
	}
	slices.SortFunc(t.FDEs, func(a, b FDE) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Off, b.Off))
	})
	for i := 1; i < len(t.FDEs); i++ {
		if a, b := &t.FDEs[i-1], &t.FDEs[i]; b.Start < a.End {
			return nil, fmt.Errorf("parse .eh_frame: ranges of the FDEs at offsets %#x and %#x overlap at %#x", a.Off, b.Off, b.Start)
		}
	}
	return t, nil
}

// entry reads the CIE, FDE or terminator at off and returns where the next begins.
func (t *Table) entry(off int, cies map[int]*CIE) (int, error) {
	c := cursor{b: t.Data, off: off}
	length := uint64(c.u32())
	if length == 0xffffffff {
		length = c.u64()
	}
	if c.err != nil || length == 0 {
		return c.off, c.err
	}
	if length > uint64(len(t.Data)-c.off) {
		return 0, fmt.Errorf("length %#x: %w", length, errTruncated)
	}
	c.b = t.Data[:c.off+int(length)]
	// The id has four bytes even after a 64-bit length (LSB; unlike .debug_frame).
	at := c.off
	id := c.u32()
	if c.err != nil {
		return 0, c.err
	}
	if id == 0 {
		cie, err := t.cie(off, &c)
		cies[off] = cie
		return len(c.b), err
	}
	cie := cies[at-int(id)]
	if cie == nil {
		return 0, fmt.Errorf("no CIE at offset %#x", at-int(id))
	}
	return len(c.b), t.fde(off, &c, cie)
}

// cie reads what follows the id of the CIE at off; c ends where the entry ends.
func (t *Table) cie(off int, c *cursor) (*CIE, error) {
	cie := &CIE{
		Off: off, Len: len(c.b) - off, LSDAEnc: encOmit,
		Personality: Pointer{Enc: encOmit},
	}
	cie.Version = c.u8()
	cie.Augment = c.cstring()
	aug, old := strings.CutPrefix(cie.Augment, "eh") // of GCC 2: a pointer, skipped
	if old {
		c.u64()
	}
	switch cie.Version {
	case 1, 3:
	case 4:
		if addrSize, segSize := c.u8(), c.u8(); c.err == nil && (addrSize != 8 || segSize != 0) {
			return nil, fmt.Errorf("addresses of %d and segments of %d bytes", addrSize, segSize)
		}
	default:
		c.fail(fmt.Errorf("CIE version %d", cie.Version))
	}
	cie.CodeAlign = c.uleb()
	cie.DataAlign = c.sleb()
	if cie.Version == 1 {
		cie.Return = uint64(c.u8())
	} else {
		cie.Return = c.uleb()
	}
	if c.err != nil {
		return nil, c.err
	}
	if cie.CodeAlign == 0 {
		return nil, errors.New("code alignment 0")
	}
	if cie.Return != RA {
		return nil, fmt.Errorf("return address in column %d", cie.Return)
	}
	if err := t.augmentation(cie, aug, c); err != nil {
		return nil, err
	}
	cie.Instrs = c.b[c.off:]
	return cie, nil
}

// augmentation reads a CIE's augmentation data.
func (t *Table) augmentation(cie *CIE, aug string, c *cursor) error {
	if aug == "" {
		return nil
	}
	if aug[0] != 'z' {
		return fmt.Errorf("augmentation \"%s\"", cie.Augment)
	}
	size := c.uleb()
	start := c.off
	body := c.bytes(size)
	if c.err != nil {
		return c.err
	}
	d := cursor{b: c.b[:start+len(body)], off: start}
	for _, r := range aug[1:] {
		switch r {
		case 'P':
			enc := d.u8()
			cie.Personality = d.pointer(enc, t.Addr)
		case 'L':
			cie.LSDAEnc = d.u8()
		case 'R':
			cie.FDEEnc = d.u8()
		case 'S':
			cie.Signal = true
		default:
			return fmt.Errorf("augmentation \"%s\"", cie.Augment)
		}
	}
	return d.err
}

// fde reads what follows the CIE pointer of the FDE at off; c ends where the entry ends.
func (t *Table) fde(off int, c *cursor, cie *CIE) error {
	f := FDE{Off: off, Len: len(c.b) - off, CIE: cie, LSDA: Pointer{Enc: encOmit}}
	if cie.FDEEnc&encIndirect != 0 { // omit too
		return fmt.Errorf("pointer encoding %#x of a range", cie.FDEEnc)
	}
	f.StartField = c.pointer(cie.FDEEnc, t.Addr)
	size := c.encoded(cie.FDEEnc)
	if strings.Contains(cie.Augment, "z") {
		n := c.uleb()
		start := c.off
		body := c.bytes(n)
		d := cursor{b: c.b[:start+len(body)], off: start, err: c.err}
		f.LSDA = d.pointer(cie.LSDAEnc, t.Addr)
		c.fail(d.err)
	}
	if c.err != nil {
		return c.err
	}
	f.Start = f.StartField.Value
	f.End = f.Start + size
	f.InstrAddr = t.Addr + uint64(c.off)
	f.Instrs = c.b[c.off:]
	if size == 0 || f.Start == 0 {
		return nil
	}
	if f.End < f.Start {
		return fmt.Errorf("range of %#x bytes at %#x", size, f.Start)
	}
	t.FDEs = append(t.FDEs, f)
	return nil
}

// Find returns the FDE whose range holds pc, nil when there is none.
func (t *Table) Find(pc uint64) *FDE {
	i := sort.Search(len(t.FDEs), func(i int) bool { return t.FDEs[i].Start > pc })
	if i == 0 || pc >= t.FDEs[i-1].End {
		return nil
	}
	return &t.FDEs[i-1]
}
