package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// FindWord looks in all memory that the process can write, and has touched,
// for an aligned 8-byte word: where is its address, 0 when there is none. The
// process runs meanwhile. It gives up with an error after limit bytes.
func (p *Process) FindWord(maps []Mapping, word uint64, limit uint64) (where Addr, err error) {
	pattern := binary.LittleEndian.AppendUint64(nil, word)
	return p.findWord(maps, limit, func(a Addr, b []byte) Addr {
		for o := 0; ; o++ {
			i := bytes.Index(b[o:], pattern)
			if i < 0 {
				return 0
			}
			if o += i; o%8 == 0 {
				return a + Addr(o)
			}
		}
	})
}

// FindPointer is FindWord for any word that is an address in one of the ranges,
// which are sorted and do not overlap, or is the end of one: what a call at its
// end returns to. What lies in except is passed over.
func (p *Process) FindPointer(maps []Mapping, ranges, except []Range, limit uint64) (where Addr, err error) {
	if len(ranges) == 0 {
		return 0, nil
	}
	lo, hi := uint64(ranges[0].Start), uint64(ranges[len(ranges)-1].End)
	return p.findWord(maps, limit, func(a Addr, b []byte) Addr {
		for o := 0; o+8 <= len(b); o += 8 {
			w := binary.LittleEndian.Uint64(b[o:])
			if w-lo > hi-lo {
				continue
			}
			at := a + Addr(o)
			holds := func(r Range) bool { return r.Contains(at) }
			points := func(r Range) bool { return r.Contains(Addr(w)) || r.End == Addr(w) }
			if slices.ContainsFunc(ranges, points) && !slices.ContainsFunc(except, holds) {
				return at
			}
		}
		return 0
	})
}

// findWord has look search writable memory a piece at a time: it gets the
// piece's address, a multiple of 8, and bytes, and returns where it found
// something, or 0.
func (p *Process) findWord(maps []Mapping, limit uint64, look func(Addr, []byte) Addr) (where Addr, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.Pid))
	if err != nil {
		return 0, fmt.Errorf("search process %d: %w", p.Pid, gone(err))
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for _, m := range maps {
		if m.Prot&Write == 0 || strings.HasPrefix(m.Path, "/dev/") && !strings.HasPrefix(m.Path, "/dev/shm/") && m.Path != "/dev/zero" {
			continue
		}
		err := touched(f, m.Range, func(r Range) error {
			for a := r.Start; a < r.End; {
				n := min(len(buf), int(r.End-a))
				if uint64(n) > limit {
					return errors.New("it has too much memory to be searched")
				}
				limit -= uint64(n)
				b := buf[:p.readFast(a, buf[:n])] // what was unmapped meanwhile is skipped
				if where = look(a, b); where != 0 {
					return nil
				}
				a += Addr(n)
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("search process %d: %w", p.Pid, err)
		}
		if where != 0 {
			return where, nil
		}
	}
	if p.replaced() {
		return 0, fmt.Errorf("search process %d: %w", p.Pid, ErrExited)
	}
	return 0, nil
}

// touched calls each with the runs of pages that are present or swapped out
// (Documentation/admin-guide/mm/pagemap.rst: bits 63 and 62).
func touched(pagemap *os.File, r Range, each func(Range) error) error {
	const page, entry, batch = 4096, 8, 8192
	buf := make([]byte, entry*batch)
	var run Range
	flush := func() error {
		if run.End == run.Start {
			return nil
		}
		err := each(run)
		run = Range{}
		return err
	}
	for a := r.Start; a < r.End; {
		n := min(batch, int((r.End-a)/page))
		if _, err := pagemap.ReadAt(buf[:n*entry], int64(a/page*entry)); err != nil {
			return err
		}
		for i := range n {
			if binary.LittleEndian.Uint64(buf[i*entry:])>>62 == 0 {
				if err := flush(); err != nil {
					return err
				}
			} else {
				if run.End == 0 {
					run.Start = a
				}
				run.End = a + page
			}
			a += page
		}
	}
	return flush()
}
