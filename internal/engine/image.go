package engine

import (
	"encoding/binary"
	"fmt"
	"math"

	"hotpatch/internal/module"
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// unit is one patch of a transaction in its module.
type unit struct {
	patch   *patch.Patch
	mod     process.Module
	over    process.Addr   // bias of the overlay
	room    process.Range  // what is reserved: overlay, a page that stays empty
	imports []process.Addr // of patch.Imports
	pieces  [][]byte       // with the fixups applied
	held    []HeldRecord   // what earlier patches brought
	prev    *unit          // the patch of this module that is replaced
	chained []edit         // from entries of prev's overlay to what they are now
	rec     UnitRecord     // on record
	again   bool           // it comes back: rec.Replaced is set
}

func (u *unit) header() process.Addr { return u.at(uint64(u.patch.Header)) }

// at is where an address of the fixed build lies in the process.
func (u *unit) at(a uint64) process.Addr { return u.over + process.Addr(a) }

// was is where an address of the baseline lies in the process.
func (u *unit) was(a uint64) process.Addr { return u.mod.Bias + process.Addr(a) }

// pieceRange is where a piece lies in the process.
func (u *unit) pieceRange(p *patch.Piece) process.Range {
	return process.Range{Start: u.at(uint64(p.Addr)), End: u.at(uint64(p.Addr)) + process.Addr(len(p.Bytes))}
}

// now is where the thing at an overlay address lies in the process: where an
// earlier patch put it, if one did.
func (u *unit) now(a module.Addr) process.Addr {
	for _, h := range u.held {
		if h.At == a {
			return h.In
		}
	}
	return u.at(uint64(a))
}

// code are the executable pieces.
func (u *unit) code() []process.Range {
	var out []process.Range
	for i := range u.patch.Pieces {
		if p := &u.patch.Pieces[i]; p.Prot == patch.ReadExec {
			out = append(out, u.pieceRange(p))
		}
	}
	return out
}

// relocate copies the pieces and applies the fixups for the place that was chosen.
func (u *unit) relocate() error {
	u.pieces = make([][]byte, len(u.patch.Pieces))
	for i := range u.patch.Pieces {
		u.pieces[i] = append([]byte(nil), u.patch.Pieces[i].Bytes...)
	}
	for i := range u.patch.Fixups {
		if err := u.fix(&u.patch.Fixups[i]); err != nil {
			return err
		}
	}
	return nil
}

func (u *unit) fix(f *patch.Fixup) error {
	bad := func(code Code, what string) error {
		return &Reason{Code: code, Module: u.patch.Module, Detail: fmt.Sprintf("fixup at %v: %s", f.At, what)}
	}
	size := f.Size()
	var b []byte
	for i := range u.patch.Pieces {
		p := &u.patch.Pieces[i]
		if off := uint64(f.At - p.Addr); f.At >= p.Addr && off < uint64(len(p.Bytes)) && uint64(len(p.Bytes))-off >= uint64(size) {
			b = u.pieces[i][off:]
		}
	}
	if b == nil {
		return bad(BadPatch, "outside the overlay")
	}
	le := binary.LittleEndian
	moved := u.now(f.Target) - u.at(uint64(f.Target))
	switch f.Kind {
	case patch.RelBaseline, patch.RelOverlay:
		if f.Kind == patch.RelBaseline {
			moved = u.mod.Bias - u.over
		}
		v := int64(int32(le.Uint32(b))) + int64(moved)
		if v < math.MinInt32 || v > math.MaxInt32 {
			return bad(Overflow, "the distance does not fit")
		}
		le.PutUint32(b, uint32(int32(v)))
	case patch.NarrowBaseline, patch.NarrowOverlay:
		v := uint64(le.Uint32(b)) + uint64(u.mod.Bias)
		if f.Kind == patch.NarrowOverlay {
			v = uint64(le.Uint32(b)) + uint64(u.over+moved)
		}
		if v > math.MaxInt32 {
			return bad(Overflow, "the address does not fit")
		}
		le.PutUint32(b, uint32(v))
	case patch.AbsBaseline:
		le.PutUint64(b, le.Uint64(b)+uint64(u.mod.Bias))
	case patch.AbsOverlay:
		le.PutUint64(b, le.Uint64(b)+uint64(u.over+moved))
	case patch.AbsImport:
		if f.Import < 0 || f.Import >= len(u.imports) {
			return bad(BadPatch, "no such import")
		}
		le.PutUint64(b, le.Uint64(b)+uint64(u.imports[f.Import]))
	default:
		return bad(BadPatch, fmt.Sprintf("unknown kind %d", f.Kind))
	}
	return nil
}

// replaces has the unit take over from another patch of its module.
func (u *unit) replaces(prev *unit) error {
	s, err := patch.Succeed(prev.patch, u.patch)
	if err != nil {
		return &Reason{Code: Conflict, Module: u.patch.Module, Detail: err.Error() + "; take patch " + prev.patch.ID.Short() + " out first"}
	}
	u.prev, u.held, u.chained = prev, nil, nil
	for _, h := range s.Held {
		u.held = append(u.held, HeldRecord{At: h.New, In: prev.now(h.Old)})
	}
	for _, st := range s.Steers {
		e := edit{at: prev.at(uint64(st.At)), name: st.Name, module: u.patch.Module}
		to := u.at(uint64(st.To))
		if st.Baseline {
			to = u.was(uint64(st.To))
		}
		var ok bool
		if e.new, ok = jump(e.at, to); !ok {
			return &Reason{Code: Overflow, Module: u.patch.Module, Function: st.Name, Detail: "the distance between the two patches does not fit"}
		}
		copy(e.old[:], prev.bytesAt(st.At, len(e.old)))
		u.chained = append(u.chained, e)
	}
	return nil
}

// bytesAt are n bytes of the overlay as they must be in the process.
func (u *unit) bytesAt(a module.Addr, n int) []byte {
	for i := range u.pieces {
		if off := uint64(a - u.patch.Pieces[i].Addr); a >= u.patch.Pieces[i].Addr && off < uint64(len(u.pieces[i])) && uint64(len(u.pieces[i]))-off >= uint64(n) {
			return u.pieces[i][off:][:n]
		}
	}
	return nil
}

// edit is a change of five bytes of code.
type edit struct {
	at       process.Addr
	old, new [5]byte
	name     string
	module   string
}

func (e edit) reversed() edit {
	e.old, e.new = e.new, e.old
	return e
}

// jump is a jmp rel32 at from that leads to to.
func jump(from, to process.Addr) (b [5]byte, ok bool) {
	d := int64(to - from - 5)
	b[0] = 0xe9
	binary.LittleEndian.PutUint32(b[1:], uint32(int32(d)))
	return b, d >= math.MinInt32 && d <= math.MaxInt32
}

// steers are the entries that the unit changes in the process. Their jumps lie
// within reach where they come to be written: see edits.
func (u *unit) steers() []SteerRecord {
	var out []SteerRecord
	for _, s := range u.patch.Steers {
		to, _ := jump(u.was(uint64(s.At)), u.at(uint64(s.To)))
		out = append(out, SteerRecord{Name: s.Name, At: u.was(uint64(s.At)), Old: s.Old, New: to})
	}
	return out
}

// edits are the entries to change: from the baseline's bytes, or those of the
// replaced patch, to the new jumps; entries that only the replaced patch
// steered become the baseline's again.
func (u *unit) edits() ([]edit, error) {
	var out []edit
	prev := map[process.Addr]SteerRecord{}
	if u.prev != nil {
		for _, s := range u.prev.rec.Steers {
			prev[s.At] = s
		}
	}
	code := u.code()
	for _, s := range u.patch.Steers {
		e := edit{at: u.was(uint64(s.At)), old: s.Old, name: s.Name, module: u.patch.Module}
		to := u.at(uint64(s.To))
		var ok, inside bool
		for _, r := range code {
			inside = inside || r.Contains(to)
		}
		if e.new, ok = jump(e.at, to); !ok || !inside {
			return nil, &Reason{Code: BadPatch, Module: u.patch.Module, Function: s.Name, Detail: "its jump leads out of the overlay"}
		}
		if p, was := prev[e.at]; was {
			e.old = p.New
			delete(prev, e.at)
		}
		out = append(out, e)
	}
	for _, p := range prev {
		out = append(out, edit{at: p.At, old: p.New, new: p.Old, name: p.Name, module: u.patch.Module})
	}
	return append(out, u.chained...), nil
}
