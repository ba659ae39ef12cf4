package check

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
)

// evidence is what says that two parts are the same function in two builds.
type evidence uint8

const (
	byName     evidence = iota + 1 // a symbol
	byBody                         // the only two bodies that are like this
	byCaller                       // code that is paired refers to both at the same place
	byOrder                        // equal bodies in the same order between paired neighbours
	byChanged                      // as byCaller, and the two bodies differ elsewhere
	byLikeness                     // between the same neighbours, with most instructions in common
	byPlace                        // all that is left between two neighbours: no proof
)

func (e evidence) String() string {
	return [...]string{"nothing", "name", "body", "caller", "order", "changed caller", "likeness", "place"}[e]
}

// pairing is which part of the fixed build is which of the baseline.
type pairing struct {
	old map[*part]*part // by part of the fixed build
	new map[*part]*part
	by  map[*part]evidence // by part of the fixed build
}

func (p *pairing) add(o, n *part, by evidence) bool {
	if o == nil || n == nil || p.old[n] != nil || p.new[o] != nil || o.gap != n.gap {
		return false
	}
	p.old[n], p.new[o], p.by[n] = o, n, by
	return true
}

// pairParts finds counterparts. Names decide where both builds have them;
// else bodies of which there is one, refined by what they refer to; then the
// calls and pointers of what is paired.
func (c *checker) pairParts() {
	c.pairs = pairing{make(map[*part]*part), make(map[*part]*part), make(map[*part]evidence)}
	for key, a := range c.fixed.funcs {
		if b, ok := c.old.funcs[key]; ok && !strings.Contains(key[strings.LastIndexByte(key, ':')+1:], ".") || strings.HasPrefix(key, "dynamic ") && ok {
			n, o := c.fixed.partAt(a), c.old.partAt(b)
			if n != nil && o != nil && n.start == a && o.start == b {
				c.pairs.add(o, n, byName)
			}
		}
	}
	c.pairGaps()
	for range 30 {
		before := len(c.pairs.old)
		c.data = c.mapData()
		c.pairByVotes(false)
		c.pairByLabel(true)
		if len(c.pairs.old) == before {
			c.pairByLabel(false)
		}
		if len(c.pairs.old) == before {
			c.pairByLikeness()
		}
		if len(c.pairs.old) == before {
			c.pairByOrder()
		}
		if len(c.pairs.old) == before {
			c.pairByVotes(true)
		}
		if len(c.pairs.old) == before {
			break
		}
	}
	c.pairByPlace()
	c.data = c.mapData()
	c.asked = make(map[question]outcome)
}

// pairGaps pairs code without frames, which cannot be exchanged: by its order.
func (c *checker) pairGaps() {
	gaps := func(m *image) (out []*part) {
		for _, p := range m.parts {
			if p.gap {
				out = append(out, p)
			}
		}
		return out
	}
	o, n := gaps(c.old), gaps(c.fixed)
	for i := range o {
		if len(o) == len(n) && o[i].hash == n[i].hash {
			c.pairs.add(o[i], n[i], byOrder)
		}
	}
}

// label says what a part is without saying where: its body and, with full,
// what it refers to.
func (c *checker) label(m *image, p *part, full bool) [32]byte {
	h := sha256.New()
	h.Write(p.hash[:])
	if full {
		for i := range p.refs {
			fmt.Fprintf(h, "%s\x00", c.refLabel(m, &p.refs[i]))
		}
	}
	return [32]byte(h.Sum(nil))
}

func (c *checker) refLabel(m *image, r *ref) string {
	t := r.target
	if slot, ok := m.stub(t); ok {
		return slotKey(m, slot)
	}
	s := m.section(t)
	if s == nil {
		return ""
	}
	if k := slotKey(m, t); k != "" {
		return k
	}
	if s.exec {
		q := m.partAt(t)
		switch {
		case q == nil:
			return "code"
		case m == c.fixed && c.pairs.old[q] != nil:
			return fmt.Sprint(c.pairs.old[q].start, t-q.start == 0)
		case m == c.old && c.pairs.new[q] != nil:
			return fmt.Sprint(q.start, t-q.start == 0)
		}
		return string(q.hash[:])
	}
	if s.write {
		return "data"
	}
	if r.use == access && r.size > 0 {
		return string(m.numbers(t, uint64(r.size)))
	}
	return string(m.text(t))
}

// slotKey names what the loader puts into a slot, in words that mean the same
// in both builds; empty for what is no such slot, or leads into the image.
func slotKey(m *image, a uint64) string {
	i, ok := m.relocAt[a]
	if !ok {
		return ""
	}
	r := &m.relocs[i]
	switch r.typ {
	case elf.R_X86_64_GLOB_DAT, elf.R_X86_64_JMP_SLOT:
		return "import " + r.sym + "@" + r.version
	case elf.R_X86_64_DTPMOD64:
		off := "loader"
		if _, filled := m.relocAt[a+8]; !filled {
			if b := m.bytes(a+8, 8); b != nil {
				off = fmt.Sprint(binary.LittleEndian.Uint64(b))
			}
		}
		return "tls module " + r.sym + "+" + off
	case elf.R_X86_64_DTPOFF64, elf.R_X86_64_TPOFF64, elf.R_X86_64_TLSDESC:
		return fmt.Sprintf("tls %v %s%+d", r.typ, r.sym, r.addend)
	}
	return ""
}

// pairByLabel pairs the parts whose label is unique in both builds.
func (c *checker) pairByLabel(full bool) {
	type found struct {
		part *part
		many bool
	}
	collect := func(m *image) map[[32]byte]found {
		out := make(map[[32]byte]found)
		for _, p := range m.parts { // paired ones, too: what is left of two twins is no evidence
			if p.gap {
				continue
			}
			l := c.label(m, p, full)
			_, dup := out[l]
			out[l] = found{p, dup}
		}
		return out
	}
	olds := collect(c.old)
	for l, n := range collect(c.fixed) {
		const enough = 6 // instructions that are more than a common shape
		if o := olds[l]; o.part != nil && !o.many && !n.many && (full || n.part.count >= enough) {
			c.pairs.add(o.part, n.part, byBody)
		}
	}
}

// pairByVotes pairs what paired code and data leads to: code of equal bodies,
// or with changed what bodies that differ have in common.
func (c *checker) pairByVotes(changed bool) {
	votes, back := make(map[*part]map[*part]bool), make(map[*part]map[*part]bool)
	vote := func(o, n uint64) {
		p, q := c.old.partAt(o), c.fixed.partAt(n)
		if p == nil || q == nil || c.pairs.old[q] != nil || c.pairs.new[p] != nil {
			return
		}
		if (p.start != o || q.start != n) && !c.sameOffset(p, q, o-p.start, n-q.start) {
			return
		}
		for _, v := range []struct {
			in   map[*part]map[*part]bool
			a, b *part
		}{{votes, q, p}, {back, p, q}} {
			if v.in[v.a] == nil {
				v.in[v.a] = make(map[*part]bool)
			}
			v.in[v.a][v.b] = true
		}
	}
	by := byCaller
	for n, o := range c.pairs.old {
		switch {
		case n.gap || c.pairs.by[n] == byPlace:
		case n.hash == o.hash && (c.in[n] == nil || changed):
			for i := range n.refs {
				vote(o.refs[i].target, n.refs[i].target)
			}
		case n.hash != o.hash && changed:
			by = byChanged
			c.aligned(o, n, func(x, y *ref) { vote(x.target, y.target) })
		}
	}
	c.pointers(func(o, n *reloc) {
		a, okA := o.leads()
		b, okB := n.leads()
		if okA && okB {
			vote(a, b)
		}
	})
	for n, olds := range votes {
		for o := range olds {
			if len(olds) == 1 && len(back[o]) == 1 {
				c.pairs.add(o, n, by)
			}
		}
	}
}

// pointers calls f with the pointers at the same place of data whose
// counterpart is sure.
func (c *checker) pointers(f func(o, n *reloc)) {
	for i := range c.fixed.relocs {
		n := &c.fixed.relocs[i]
		o, sure := c.data.old(n.at)
		if k, ok := c.old.relocAt[o]; sure && ok {
			f(&c.old.relocs[k], n)
		}
	}
	for name, n := range c.classes[1] {
		o := c.classes[0][name]
		if !strings.HasPrefix(name, "vtable ") || o == 0 || n == 0 {
			continue
		}
		olds, fixed := c.old.slots(o), c.fixed.slots(n)
		for i := range fixed {
			if len(olds) == len(fixed) {
				f(&olds[i], &fixed[i])
			}
		}
	}
}

// pairByOrder pairs equal bodies that follow each other in both builds
// between the same paired neighbours.
func (c *checker) pairByOrder() {
	var from, at int // in the baseline and the fixed build
	olds := make(map[*part]int, len(c.old.parts))
	for i, p := range c.old.parts {
		olds[p] = i
	}
	between := func(a, b, x, y int) {
		same := func(i, k int) bool { return c.old.parts[i].hash == c.fixed.parts[k].hash }
		for ; a < b && x < y && same(a, x); a, x = a+1, x+1 {
			c.pairs.add(c.old.parts[a], c.fixed.parts[x], byOrder)
		}
		for ; a < b && x < y && same(b-1, y-1); b, y = b-1, y-1 {
			c.pairs.add(c.old.parts[b-1], c.fixed.parts[y-1], byOrder)
		}
	}
	for i, n := range c.fixed.parts {
		o := c.pairs.old[n]
		if o == nil {
			continue
		}
		if k := olds[o]; k >= from {
			between(from, k, at, i)
			from, at = k+1, i+1
		}
	}
	between(from, len(c.old.parts), at, len(c.fixed.parts))
}

// left calls f with the parts that are not paired between each two
// neighbouring paired ones, in both builds.
func (c *checker) left(f func(old, fixed []*part)) {
	index := make(map[*part]int, len(c.old.parts))
	for i, p := range c.old.parts {
		index[p] = i
	}
	from, at := 0, 0
	between := func(a, x int) {
		if a < from || a-from > maxGap || x-at > maxGap {
			return
		}
		free := func(list []*part, paired map[*part]*part) (out []*part) {
			for _, p := range list {
				if paired[p] == nil && !p.gap {
					out = append(out, p)
				}
			}
			return out
		}
		o, n := free(c.old.parts[from:a], c.pairs.new), free(c.fixed.parts[at:x], c.pairs.old)
		if len(o) > 0 && len(n) > 0 {
			f(o, n)
		}
	}
	for i, n := range c.fixed.parts {
		if o := c.pairs.old[n]; o != nil {
			between(index[o], i)
			from, at = index[o]+1, i+1
		}
	}
	between(len(c.old.parts), len(c.fixed.parts))
}

// maxGap is how many parts between two neighbours are held against each other.
const maxGap = 24

// pairByLikeness pairs parts that lie between the same neighbours and have
// more in common with each other than with any other there.
func (c *checker) pairByLikeness() {
	c.left(func(olds, fixed []*part) {
		least := mostly
		if len(olds) == 1 && len(fixed) == 1 {
			least = somewhat
		}
		for _, n := range fixed {
			if o := c.likest(olds, n, c.old, c.fixed, least); o != nil && c.likest(fixed, o, c.fixed, c.old, least) == n {
				c.pairs.add(o, n, byLikeness)
			}
		}
	})
}

// How much two bodies have in common that are one function: with others
// around, and where there is no other.
const mostly, somewhat = 0.6, 0.3

// likest is the part of a list that has most instructions in common with p,
// if they are at least a share of the longer one; nil where two have equally many.
func (c *checker) likest(list []*part, p *part, m, mp *image, least float64) (best *part) {
	keys, most := c.keys(mp, p), 0
	for _, q := range list {
		other := c.keys(m, q)
		n := len(common(keys, other))
		switch {
		case float64(n) < least*float64(max(len(keys), len(other))) || n == 0:
		case n > most:
			best, most = q, n
		case n == most:
			best = nil
		}
	}
	return best
}

// guessed reports whether a pair is too weak to speak against another: twins
// may have changed places, and a place alone proves nothing.
func (p *pairing) guessed(n *part) bool {
	return p.by[n] == byPlace || p.by[n] == byOrder && !n.gap
}

// pairByPlace guesses that what is left alone between the same two neighbours
// is one function that changed.
func (c *checker) pairByPlace() {
	c.left(func(olds, fixed []*part) {
		if len(olds) == 1 && len(fixed) == 1 {
			c.pairs.add(olds[0], fixed[0], byPlace)
		}
	})
}

// isNew reports whether the baseline has nothing like a part of the fixed
// build that is not paired with something else.
func (c *checker) isNew(n *part) bool {
	var free []*part
	for _, o := range c.old.parts {
		if c.pairs.new[o] == nil && !o.gap {
			free = append(free, o)
		}
	}
	keys := c.keys(c.fixed, n)
	for _, o := range free {
		other := c.keys(c.old, o)
		if float64(len(common(keys, other))) >= somewhat*float64(min(len(keys), len(other))) {
			return false
		}
	}
	return true
}
