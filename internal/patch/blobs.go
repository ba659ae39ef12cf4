package patch

import (
	"slices"

	"hotpatch/internal/module"
)

// blob is read-only data of uncertain extent that comes along. Blobs that
// touch become one, so that distances within an object stay what they are.
type blob struct {
	from module.Range
	at   annexAt
}

// placeBlobs merges the blobs and gives them their places.
func (b *builder) placeBlobs() {
	const align = 64 // what compilers give to large constants
	slices.SortFunc(b.blobs, func(x, y blob) int { return int(int64(x.from.Start) - int64(y.from.Start)) })
	merged := b.blobs[:0]
	for _, x := range b.blobs {
		if n := len(merged); n > 0 && x.from.Start <= merged[n-1].from.End {
			merged[n-1].from.End = max(merged[n-1].from.End, x.from.End)
			continue
		}
		merged = append(merged, x)
	}
	b.blobs = merged
	for i := range b.blobs {
		x := &b.blobs[i]
		x.at = b.annex.reserveLike(ReadOnly, x.from, align)
		copy(b.annex.bytes[ReadOnly][x.at.off:], b.New.Bytes(x.from))
	}
}

// blobAt is the place of the read-only data that the fixed build has at a.
func (b *builder) blobAt(a module.Addr) annexAt {
	for _, x := range b.blobs {
		if x.from.Contains(a) {
			return annexAt{ReadOnly, x.at.off + uint64(a-x.from.Start)}
		}
	}
	return annexAt{}
}
