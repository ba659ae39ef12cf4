package check

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"

	"hotpatch/internal/module/x86"
)

func uint64FromLE(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// leftOut looks for code of the fixed build that differs from the baseline's
// and does not come along.
func (c *checker) leftOut() {
	for _, n := range c.fixed.parts {
		o := c.pairs.old[n]
		if o == nil || c.in[n] != nil {
			continue
		}
		c.at(n.String(), n.start)
		d := c.compare(o, n)
		switch {
		case d.state == proved:
			c.report.Proved.Compared++
		case c.omitted(n, &d):
			c.report.Proved.Omitted++
		case c.reached(o) == "" && !called(c.old.parts, o) && !called(c.fixed.parts, n): // nobody runs it
		case d.state == open || c.pairs.by[n] == byPlace || n.gap:
			c.unproved(LeftOut, "%s", d.detail)
		default:
			c.fault(LeftOut, "%s", d.detail)
		}
	}
}

// called reports whether other code refers to a part.
func called(parts []*part, p *part) bool {
	for _, q := range parts {
		for i := range q.refs {
			if q != p && q.refs[i].target == p.start {
				return true
			}
		}
	}
	return false
}

// compare answers whether two parts do the same where each of them lies.
func (c *checker) compare(o, n *part) outcome {
	if o.hash != n.hash {
		return c.bodiesDiffer(o, n)
	}
	return c.compareRefs(o, n)
}

// compareRefs compares what two parts refer to, instruction by instruction.
func (c *checker) compareRefs(o, n *part) outcome {
	if len(o.refs) != len(n.refs) {
		return bad(LeftOut, "it refers to %d things instead of %d", len(n.refs), len(o.refs))
	}
	left := outcome{}
	for i := range n.refs {
		a, b := &o.refs[i], &n.refs[i]
		if a.target == b.target && c.fixed.outside(b.target) && c.old.outside(a.target) {
			continue // as a call of a weak function that nobody has
		}
		d := c.ask(question{b.target, a.target + baseBias, b.use, uint64(b.size), n, true})
		if d.state == wrong {
			d.detail = fmt.Sprintf("its reference at %#x %s", n.start+uint64(b.off), d.detail)
			return d
		}
		if d.state == open && left.state == proved {
			left = d
		}
	}
	if o.frame != nil && n.frame != nil && n.frame.lsda != 0 && o.frame.lsda != 0 {
		x, errX := readHandlers(c.readerAt(c.old, o.frame.lsda))
		y, errY := readHandlers(c.readerAt(c.fixed, n.frame.lsda))
		if errX != nil || errY != nil {
			return unsure(Exceptions, "its exception table cannot be read")
		}
		for i := range x.types {
			if x.types[i].value != 0 {
				x.types[i].value += baseBias
			}
		}
		for _, d := range c.compareHandlers(y, x, true) {
			if d.state == wrong {
				return d
			}
		}
	}
	return left
}

// bodiesDiffer says how two bodies differ: in numbers alone, or otherwise.
func (c *checker) bodiesDiffer(o, n *part) outcome {
	if at, ok := c.onlyNumbers(o, n); !ok {
		return bad(LeftOut, "its body differs at %#x", at)
	}
	if d := c.compareRefs(o, n); d.state == wrong {
		return d
	}
	return bad(lineNumbers, "numbers in it differ")
}

// onlyNumbers reports whether two bodies are the same but for numbers that are
// moved or pushed, and otherwise where they differ.
func (c *checker) onlyNumbers(o, n *part) (at uint64, ok bool) {
	a, b := c.bodyOf(c.old, o), c.bodyOf(c.fixed, n)
	plain := func(list []instruction) (out []*instruction) {
		for i := range list {
			if list[i].Kind != x86.Nop {
				out = append(out, &list[i])
			}
		}
		return out
	}
	x, y := plain(a), plain(b)
	if len(x) != len(y) || len(x) == 0 {
		return n.start, false
	}
	old, fixed := c.old.bytes(o.start, o.end-o.start), c.fixed.bytes(n.start, n.end-n.start)
	for i := range x {
		p, q := x[i], y[i]
		to, was := q.Target(uint64(q.off)), p.Target(uint64(p.off))
		same := p.Relative() == q.Relative()
		if p.Relative() && !p.RIP {
			inside := to < n.end-n.start
			same = same && p.Kind == q.Kind && condition(p) == condition(q) &&
				inside == (was < o.end-o.start) && (!inside || indexOf(b, to) == indexOf(a, was))
		} else {
			same = same && p.Len == q.Len && bytes.Equal(withoutNumbers(c.old.plain(o, p, old), p), withoutNumbers(c.fixed.plain(n, q, fixed), q))
		}
		if !same {
			return n.start + uint64(q.off), false
		}
	}
	return 0, true
}

// The kinds of differences that a patch may leave out, when it says so.
const (
	lineNumbers Code = "line number"
	versionText Code = "version text"
)

// withoutNumbers clears what an instruction has of an address or a number.
func withoutNumbers(code []byte, in *instruction) []byte {
	b := bytes.Clone(code)
	if in.RIP {
		clear(b[in.DispOff:][:in.DispLen])
	}
	if in.Map == 0 && in.Opcode&0xf8 == 0xb8 || in.Map == 0 && (in.Opcode == 0x68 || in.Opcode == 0x6a) {
		clear(b[in.ImmOff:][:in.ImmLen])
	}
	return b
}

// omitted reports whether a difference is one that the patch says it leaves
// out, and of the kind that it says.
func (c *checker) omitted(n *part, d *outcome) bool {
	for _, o := range c.patch.Omissions {
		if !strings.HasPrefix(o.Name, n.name) && !strings.HasSuffix(o.Name, fmt.Sprintf("%x", n.start)) || o.Name == "" {
			continue
		}
		if o.Reason == string(lineNumbers) && d.code == lineNumbers {
			return true
		}
		if o.Reason == string(versionText) && d.code == Constant && c.onlyVersions(n) {
			return true
		}
	}
	return false
}

var digits = regexp.MustCompile(`\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b|[0-9A-Za-z.+~:-]*[0-9][0-9A-Za-z.+~:-]*`)

// onlyVersions reports whether all texts that a part refers to are those of
// the baseline, numbers apart.
func (c *checker) onlyVersions(n *part) bool {
	o := c.pairs.old[n]
	if o == nil || len(o.refs) != len(n.refs) {
		return false
	}
	for i := range n.refs {
		a, b := &o.refs[i], &n.refs[i]
		if c.ask(question{b.target, a.target + baseBias, b.use, uint64(b.size), n, true}).state != wrong {
			continue
		}
		x, y := c.old.text(a.target), c.fixed.text(b.target)
		if x == nil || y == nil || !bytes.Equal(digits.ReplaceAll(x, nil), digits.ReplaceAll(y, nil)) {
			return false
		}
	}
	return true
}
