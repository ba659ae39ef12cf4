package diff

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hotpatch/internal/module"
)

type sameness uint8

const (
	different sameness = iota
	same
	version // differs in the text of a version only
)

// constant compares read-only data. A load says how long it is; of an object
// whose address is taken the extent is unknown, and it is compared up to the
// next address that anything refers to.
func (c *comparer) constant(o, n module.Addr, kind module.RefKind, size uint8) sameness {
	if kind == module.RefMemory && size > 0 {
		ro, rn := module.Range{Start: o, End: o + module.Addr(size)}, module.Range{Start: n, End: n + module.Addr(size)}
		a, b := numbersIn(c.Old, ro), numbersIn(c.New, rn)
		if a == nil || !bytes.Equal(a, b) || !c.samePointers(ro, rn) {
			return different
		}
		return same
	}
	ta, tb := c.Old.Text(o), c.New.Text(n)
	if ta != tb {
		if versionOnly(ta, tb) && c.Old.OnlyText(o) && c.New.OnlyText(n) {
			return version
		}
		return different
	}
	// Behind a text the next object may start without anything referring to it.
	end := module.Addr(len(ta))
	endA, endB := c.Old.NextAnchor(o+end), c.New.NextAnchor(n+end)
	a := numbersIn(c.Old, module.Range{Start: o + end, End: endA})
	b := numbersIn(c.New, module.Range{Start: n + end, End: endB})
	if a == nil || b == nil {
		return different
	}
	if end > 0 { // as much as alignment needs
		x, y := bytes.TrimLeft(a, "\x00"), bytes.TrimLeft(b, "\x00")
		if d := (len(a) - len(x)) - (len(b) - len(y)); len(x) > 0 && len(y) > 0 && d > -32 && d < 32 {
			a, b = x, y
		}
	}
	ro, rn := module.Range{Start: o, End: endA}, module.Range{Start: n, End: endB}
	if !samePadded(a, b, endA, endB) || !c.sameOffsets(ro, rn) || !c.samePointers(ro, rn) {
		return different
	}
	return same
}

// numbersIn is what the file holds for a range of read-only data, with zeros
// for the pointers of a program at a fixed address: see samePointers.
func numbersIn(m *module.Module, r module.Range) []byte {
	b := m.Bytes(r)
	rels := m.RelocsIn(r)
	if b == nil || len(rels) == 0 {
		return b
	}
	b = bytes.Clone(b)
	for _, rel := range rels {
		at := b[rel.Addr-r.Start:]
		clear(at[:min(8, len(at))])
	}
	return b
}

// samePointers reports whether two stretches of constants have pointers at the
// same places that lead to the same things.
func (c *comparer) samePointers(o, n module.Range) bool {
	olds, news := c.Old.RelocsIn(o), c.New.RelocsIn(n)
	if len(olds) != len(news) {
		return false
	}
	for i := range news {
		if olds[i].Addr-o.Start != news[i].Addr-n.Start {
			return false
		}
		if c.pointers[news[i].Addr] {
			continue // asked already, further up
		}
		if c.pointers == nil {
			c.pointers = make(map[module.Addr]bool)
		}
		c.pointers[news[i].Addr] = true
		why := c.slotDiffers(olds[i], news[i])
		delete(c.pointers, news[i].Addr)
		if why != "" && !c.taken(olds[i], news[i]) {
			return false
		}
	}
	return true
}

// voteByConstants lets the pointers at the same places of constants that the
// same place of paired code refers to say what they pair.
func (c *comparer) voteByConstants() {
	if !c.New.Fixed() {
		return // elsewhere the loader writes to what has pointers
	}
	seen := make(map[[2]module.Addr]bool)
	var visit func(o, n module.Addr)
	visit = func(o, n module.Addr) {
		so, sn := c.Old.SectionAt(o), c.New.SectionAt(n)
		if so == nil || sn == nil || so.Write || sn.Write || so.Exec || sn.Exec || seen[[2]module.Addr{o, n}] {
			return
		}
		seen[[2]module.Addr{o, n}] = true
		size := min(c.Old.NextAnchor(o)-o, c.New.NextAnchor(n)-n)
		olds, news := c.Old.RelocsIn(module.Range{Start: o, End: o + size}), c.New.RelocsIn(module.Range{Start: n, End: n + size})
		for i := range min(len(olds), len(news)) {
			if olds[i].Addr-o != news[i].Addr-n {
				return
			}
			was, okO := olds[i].Leads()
			is, okN := news[i].Leads()
			if okO && okN {
				c.vote(was, is, nil)
				visit(was, is)
			}
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(c.votes.constants), func(a, b [2]module.Addr) int { return cmp.Compare(a[1], b[1]) }) {
		visit(p[0], p[1])
	}
}

// Offsets are the addresses that an object leads to, where it starts like a
// table of offsets from its own address to texts or functions, as clang makes
// them. One of them alone may be a number.
func Offsets(m *module.Module, r module.Range) []module.Addr {
	var out []module.Addr
	for at := r.Start; at+4 <= r.End; at += 4 {
		to := r.Start + module.Addr(int64(int32(binary.LittleEndian.Uint32(m.Bytes(module.Range{Start: at, End: at + 4})))))
		s := m.SectionAt(to)
		switch {
		case s == nil:
			return out
		case s.Exec:
			if f := m.FuncAt(to); f == nil || f.Entry() != to {
				return out
			}
		default:
			if before := m.Bytes(module.Range{Start: to - 1, End: to}); before == nil || before[0] != 0 || m.Text(to) == "" {
				return out
			}
		}
		out = append(out, to)
	}
	return out
}

// sameOffsets reports whether two tables of offsets, equal as numbers, lead to
// the same texts and functions. What is no such table leads nowhere.
func (c *comparer) sameOffsets(o, n module.Range) bool {
	olds, news := Offsets(c.Old, o), Offsets(c.New, n)
	if len(olds) < 2 && len(news) < 2 {
		return true
	}
	return slices.EqualFunc(olds, news, func(a, b module.Addr) bool {
		if s := c.New.SectionAt(b); s.Exec {
			return c.toNew[c.Old.FuncAt(a)] == c.New.FuncAt(b) && c.New.FuncAt(b) != nil
		}
		return c.Old.Text(a) == c.New.Text(b)
	})
}

// samePadded compares two stretches of read-only data that end where
// something else starts: the longer one may have zeros in addition, as many
// as the alignment of what follows explains. More of them are an object that
// grew.
func samePadded(a, b []byte, endA, endB module.Addr) bool {
	if len(a) > len(b) {
		a, b, endB = b, a, endA
	}
	rest := b[len(a):]
	align := min(64, uint64(endB&-endB))
	return bytes.Equal(a, b[:len(a)]) && uint64(len(rest)) < max(align, 1) &&
		!slices.ContainsFunc(rest, func(ch byte) bool { return ch != 0 })
}

// versionText matches what differs between two builds of the same source and
// decides nothing: a version of three numbers with what packagers add to it, or
// of two and a package's revision, and a date written in words or as three numbers. Four numbers may be an
// address of the Internet Protocol, more an object identifier.
var versionText = regexp.MustCompile(`\b\d+(\.\d+){2,}([-+~][0-9A-Za-z.+~-]*)?\b` +
	`|\b\d+\.\d+-\d+(\+[0-9A-Za-z.+~]*)?\b` +
	`|\b\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{4}\b` +
	`|\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* +\d{1,2},? \d{4}\b` +
	`|\b[\w./+-]+\.(c|h|cc|hh|cpp|hpp|cxx):\d+\b` +
	`|\b20\d\d[-/]\d\d[-/]\d\d\b|\b\d\d:\d\d:\d\d\b`)

var numbers = regexp.MustCompile(`^\d+(\.\d+)*`)

// versionOnly reports whether two texts differ in a version that went up, or
// in a date.
func versionOnly(a, b string) bool {
	if a == "" || b == "" || versionText.ReplaceAllString(a, "#") != versionText.ReplaceAllString(b, "#") {
		return false
	}
	x, y := versionText.FindAllString(a, -1), versionText.FindAllString(b, -1)
	for i := range x {
		p, q := strings.Split(numbers.FindString(x[i]), "."), strings.Split(numbers.FindString(y[i]), ".")
		if x[i] == y[i] || len(p) == 1 || len(q) == 1 {
			continue
		}
		if len(p) == 2 && len(q) == 2 {
			u, _, _ := strings.Cut(x[i], "+")
			v, _, _ := strings.Cut(y[i], "+")
			if u != v { // only what a distribution adds to the revision
				return false
			}
			continue
		}
		if len(p) != 3 || len(q) != 3 || slices.CompareFunc(p, q, number) > 0 {
			return false
		}
	}
	return true
}

func number(a, b string) int {
	x, _ := strconv.Atoi(a) // digits; what overflows compares as the largest
	y, _ := strconv.Atoi(b)
	return x - y
}

// spreadConstants follows changed data back: code that refers to an address
// before it may mean the same object, whose extent stripped code does not
// tell. Such code is included rather than left with old data.
func (c *comparer) spreadConstants() {
	for n, o := range c.constants() {
		if c.constant(o, n, module.RefAddress, 0) == different && !c.New.OnlyText(n) {
			c.suspect(n)
		}
	}
	if len(c.moved) == 0 {
		return
	}
	for a := range c.moved {
		delete(c.ro, a)
	}
	for _, n := range c.New.Funcs {
		if c.toOld[n] == nil || c.changed[n] != "" {
			continue
		}
		for i := range n.Refs {
			r := &n.Refs[i]
			taken := r.Kind == module.RefAddress || r.Indexed()
			if taken && c.moved[r.Target] && !isTable(n, r) {
				c.changed[n] = fmt.Sprintf("reads the table at %v, which may reach into changed data", r.Target)
			}
		}
	}
}

// suspect notes the objects before n that may reach to n, as far back as
// something is certain to end before it.
func (c *comparer) suspect(n module.Addr) {
	inside := c.New.AnchorAt(n)&^module.AnchorAccess == 0
	for {
		a, ok := c.New.LastAnchor(n)
		if !ok || c.New.OnlyText(a) || c.New.AnchorAt(a)&module.AnchorTable != 0 || c.moved[a] || vtableEnd(c.New, a) > 0 && vtableEnd(c.New, a) <= n {
			return
		}
		k := c.New.AnchorAt(a)
		if k&(module.AnchorTaken|module.AnchorPointer|module.AnchorSymbol) != 0 {
			c.moved[a] = true
		}
		if k&(module.AnchorPointer|module.AnchorSymbol) != 0 {
			if inside {
				c.refuse(ConstantData, c.objectName(c.New, a), "a pointer leads to it, and it may reach to %v, which changed", n)
			}
			return
		}
		n = a
	}
}

// constants are the read-only addresses at the same place of paired code,
// jump tables apart.
func (c *comparer) constants() map[module.Addr]module.Addr {
	out := make(map[module.Addr]module.Addr)
	for p := range c.votes.constants {
		if c.New.AnchorAt(p[1])&module.AnchorTable == 0 {
			out[p[1]] = p[0]
		}
	}
	return out
}
