package diff

import "testing"

// TestValuesStaySmall joins values again and again, as the blocks of a large
// function do: what is kept of each is bounded.
func TestValuesStaySmall(t *testing.T) {
	a, b := opaque(tagArg, 0), opaque(tagArg, 1)
	a.leaves, a.widths, a.nums = []int64{8}, []uint8{4}, []int64{1}
	b.leaves, b.widths, b.nums = []int64{16}, []uint8{8}, []int64{2}
	for i := range uint64(200) {
		x, y := combine(mix(tagOp, i), a, b), combine(mix(tagOp, i+1000), b, a)
		a, b = *either(&x, &y), combine(mix(tagOp, i+2000), x, y)
		for _, v := range []value{a, b} {
			if len(v.leaves) > maxLeaves || len(v.widths) > maxLeaves || len(v.nums) > maxLeaves {
				t.Fatalf("round %d: %d offsets, %d widths, %d numbers", i, len(v.leaves), len(v.widths), len(v.nums))
			}
		}
	}
}
