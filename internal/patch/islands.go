package patch

import (
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// islandLen is the length of an island: a jmp rel32 at the place to which an
// 8-bit branch leads out of a part of a function, so that the branch, which
// cannot lead further, stays as it is.
const islandLen = 5

// shortBranches are the addresses outside each part of f to which 8-bit
// branches lead from it, sorted.
func (b *builder) shortBranches(f *module.Func) [][]module.Addr {
	out := make([][]module.Addr, len(f.Ranges))
	for _, in := range b.New.Body(f) {
		if !in.Relative() || in.DispLen != 1 {
			continue
		}
		t, part := module.Addr(in.Target(uint64(in.At))), f.PlaceOf(in.At).Part
		if !f.Ranges[part].Contains(t) && !slices.Contains(out[part], t) {
			out[part] = append(out[part], t)
		}
	}
	for _, list := range out {
		slices.Sort(list)
	}
	return out
}

// withIslands is the room, around a part of f, that it needs with the islands
// at the addresses in to.
func (b *builder) withIslands(f *module.Func, r module.Range, to []module.Addr) module.Range {
	room := r
	for i, t := range to {
		if t < r.Start && t+islandLen > r.Start || i > 0 && t < to[i-1]+islandLen {
			b.refuse(diff.ShortBranch, f.Name, "an 8-bit branch leads to %v, where no jump has room", t)
		}
		room.Start, room.End = min(room.Start, t), max(room.End, t+islandLen)
	}
	return room
}

// branch has an instruction of an included function lead to a target outside
// its part: by its own field, or over an island.
func (b *builder) branch(at, t module.Addr, fieldOff, fieldLen, n uint8, to target) {
	if fieldLen == 4 {
		b.puts = append(b.puts, put{at: b.codeAt(at + module.Addr(fieldOff)), end: b.codeEndOf(at, n), to: to})
		return
	}
	from := b.at(at) + (t - at)
	if b.islands[from] {
		return
	}
	b.islands[from] = true
	b.puts = append(b.puts, put{at: annexAt{inCode, uint64(from) + 1}, end: annexAt{inCode, uint64(from) + islandLen}, to: to})
}

// fillIslands writes what the islands begin with.
func (b *builder) fillIslands() {
	const jmp = 0xe9
	for a := range b.islands {
		b.out.field(a, 1)[0] = jmp
	}
}
