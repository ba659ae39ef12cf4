package check

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
)

// steers holds each jump against the function that it leads away from and the
// one that it leads to, and makes sure that none is missing.
func (c *checker) steers() {
	steered := make(map[*part]bool)
	for i := range c.patch.Steers {
		s := &c.patch.Steers[i]
		c.at(s.Name, uint64(s.At))
		if p := c.steer(s); p != nil {
			steered[p] = true
		}
	}
	for i := range c.code {
		m := &c.code[i]
		f := &c.patch.Functions[m.fn]
		c.at(f.Name, m.part.start)
		o := c.pairs.old[m.part]
		if uint64(f.Fixed[0].Start) == m.part.start {
			c.entry(f, m, o, steered[m.part])
		}
		if o != nil && !c.listed(o) {
			c.weigh(m.part, Steer, "its old code at %#x is not among what may not be running", o.start)
		}
	}
	c.oldFuncs()
}

// entry checks what the patch says of a function, and that nothing leads to
// its old code any more.
func (c *checker) entry(f *patch.Function, m *moved, o *part, steered bool) {
	if steered != f.Steered || steered == (f.Change == patch.Added) || steered == (f.Old == 0) {
		c.fault(Steer, "it is said to be new or not, steered or not, and to be the baseline's %#x: that does not go together", uint64(f.Old))
		return
	}
	if o == nil {
		return // the steer says that there is no evidence
	}
	if steered && uint64(f.Old) != o.start {
		c.weigh(m.part, Flags, "it is said to be the baseline's %#x, and it is %#x", uint64(f.Old), o.start)
	}
	if why := c.reached(o); !steered && why != "" {
		c.weigh(m.part, Steer, "nothing leads from the baseline's %#x to its copy, and %s", o.start, why)
	}
}

// reached says what of a patched process may still lead to a part of the
// baseline: code that stays, or any pointer, since it may be stored already.
func (c *checker) reached(o *part) string {
	for _, p := range c.old.parts {
		stays := c.in[c.pairs.new[p]] == nil && !c.listed(p)
		for i := range p.refs {
			if r := &p.refs[i]; p != o && r.target == o.start && (stays || r.use == address) {
				return fmt.Sprintf("%v leads to it", p)
			}
		}
	}
	for i := range c.old.relocs {
		r := &c.old.relocs[i]
		if a, ok := r.leads(); ok && a == o.start || r.typ == elf.R_X86_64_IRELATIVE && uint64(r.addend) == o.start {
			return fmt.Sprintf("the pointer at %#x leads to it", r.at)
		}
	}
	for key, s := range c.old.exports {
		if s.Value == o.start {
			return strings.TrimPrefix(key, "dynamic ") + " is exported"
		}
	}
	return ""
}

// weigh notes a fault that rests on a pair: without evidence for the pair it
// proves nothing.
func (c *checker) weigh(n *part, code Code, format string, args ...any) {
	if c.pairs.guessed(n) {
		c.unproved(code, format, args...)
		return
	}
	c.fault(code, format, args...)
}

// steer checks one jump and returns the part that it leads to.
func (c *checker) steer(s *patch.Steer) *part {
	at, to := uint64(s.At), uint64(s.To)
	if !bytes.Equal(c.old.bytes(at, uint64(len(s.Old))), s.Old[:]) {
		c.fault(OldBytes, "% x are not what the baseline has: % x", s.Old[:], c.old.bytes(at, uint64(len(s.Old))))
	}
	var m *moved
	for i := range c.code {
		if c.code[i].to <= to && to < c.code[i].to+c.code[i].part.end-c.code[i].part.start {
			m = &c.code[i]
		}
	}
	o := c.old.partAt(at)
	if m == nil || o == nil || o.gap {
		c.fault(Steer, "it leads from no function, or to none: %#x", to)
		return nil
	}
	from := at
	in, err := x86.Decode(c.old.bytes(o.start, min(16, o.end-o.start)))
	if err == nil && in.Kind == x86.Endbr && at == o.start+uint64(in.Len) {
		from = o.start
	} else if err == nil && in.Kind == x86.Endbr && at == o.start {
		c.fault(Steer, "it overwrites endbr64")
	}
	next := c.old.partAt(o.end)
	if at+5 > o.end && next != nil && next.start < at+5 {
		c.fault(Steer, "it overwrites the start of %v", next)
	}
	want := c.pairs.old[m.part]
	switch {
	case to != m.to || from != o.start:
		if to-m.to != from-o.start {
			c.fault(Steer, "it leads from %v+%#x to %v+%#x", o, from-o.start, m.part, to-m.to)
			return nil
		}
		c.unproved(Steer, "it leads from %v+%#x to %v+%#x", o, from-o.start, m.part, to-m.to)
		return nil
	case want == nil && c.pairs.new[o] != nil:
		c.weigh(c.pairs.new[o], Steer, "it leads to %v, and %v is %v", m.part, o, c.pairs.new[o])
	case want == nil:
		c.unproved(Steer, "nothing independent says that %v is %v", o, m.part)
	case want != o:
		c.weigh(m.part, Steer, "it leads from %v at %#x to %v, which is %v at %#x", o, o.start, m.part, want, want.start)
	case c.pairs.by[m.part] == byPlace:
		c.unproved(Steer, "only its place says that %v is %v", o, m.part)
	default:
		c.report.Proved.Steers++
	}
	return m.part
}

// listed reports whether a part of the baseline is among what may not be running.
func (c *checker) listed(o *part) bool {
	for i := range c.patch.Old {
		for _, r := range c.patch.Old[i].Ranges {
			if uint64(r.Start) == o.start && uint64(r.End) == o.end {
				return true
			}
		}
	}
	return false
}

// oldFuncs checks the list of what may not be running.
func (c *checker) oldFuncs() {
	for i := range c.patch.Old {
		f := &c.patch.Old[i]
		h := sha256.New()
		for _, r := range f.Ranges {
			c.at(f.Name, uint64(r.Start))
			if p := c.old.partAt(uint64(r.Start)); p == nil || p.start != uint64(r.Start) || p.end != uint64(r.End) {
				c.fault(OldBytes, "not a function of the baseline")
				return
			}
			h.Write(c.old.bytes(uint64(r.Start), uint64(r.End-r.Start)))
		}
		if !bytes.Equal(h.Sum(nil), f.Digest[:]) {
			c.fault(OldBytes, "its digest is not that of the baseline's bytes")
		}
	}
}

// exports checks the functions that only the fixed build exports.
func (c *checker) exports() {
	listed := make(map[string]bool)
	for _, e := range c.patch.Exports {
		key := "dynamic " + e.Name + "@" + e.Version
		listed[key] = true
		s, ok := c.fixed.exports[key]
		c.at(e.Name, s.Value)
		if !ok {
			c.fault(Export, "the fixed build does not export it")
			continue
		}
		if o := c.leads(s.Value, uint64(e.At)+overlayBias, flow, 0, nil); o.state != proved {
			o.code = Export
			c.settle(o)
		}
	}
	for key, s := range c.fixed.exports {
		if _, ok := c.old.exports[key]; ok || listed[key] || elf.ST_TYPE(s.Info) != elf.STT_FUNC {
			continue
		}
		c.at(strings.TrimPrefix(key, "dynamic "), s.Value)
		if p := c.fixed.partAt(s.Value); c.in[p] != nil {
			c.fault(Export, "it is not listed")
		} else {
			c.fault(LeftOut, "a new export does not come along")
		}
	}
}

// threads compares what the two builds keep for each thread.
func (c *checker) threads() {
	c.at("PT_TLS", c.fixed.tls.Vaddr)
	o, n := &c.old.tls, &c.fixed.tls
	if o.Memsz != n.Memsz || o.Filesz != n.Filesz || o.Align != n.Align {
		c.fault(ThreadLocal, "%d bytes become %d", o.Memsz, n.Memsz)
		return
	}
	if n.Filesz > 0 && !bytes.Equal(c.old.bytes(o.Vaddr, o.Filesz), c.fixed.bytes(n.Vaddr, n.Filesz)) {
		c.fault(ThreadLocal, "other initial values")
	}
	for key, a := range c.fixed.threads {
		if b, ok := c.old.threads[key]; ok && a != b && !numbered.MatchString(key) {
			c.at(key, a)
			c.fault(ThreadLocal, "it lies at %#x in the baseline", b)
		}
	}
}

// fixups makes sure that each fixup belongs to a reference that was followed,
// and says where it leads.
func (c *checker) fixups() {
	for at, l := range c.links {
		f := l.fixup
		c.at("overlay", uint64(f.At))
		var to uint64
		ok := false
		switch f.Kind {
		case patch.RelBaseline, patch.NarrowBaseline:
			to, ok = c.fields[at]
			to -= baseBias
		case patch.RelOverlay, patch.NarrowOverlay:
			to, ok = c.fields[at]
			to -= overlayBias
		case patch.AbsBaseline, patch.AbsOverlay:
			b := c.overlay(at, 8)
			to, ok = uint64FromLE(b), l.used
			if f.Kind == patch.AbsBaseline {
				to -= baseBias
			} else {
				to -= overlayBias
			}
		case patch.AbsImport:
			ok = l.used // Target stays 0
		}
		switch {
		case !ok:
			c.fault(Fixup, "no reference that was followed has its field there")
		case to != uint64(f.Target):
			c.fault(Fixup, "its field leads to %#x, it says %#x", to, uint64(f.Target))
		default:
			c.report.Proved.Fixups++
		}
	}
}

// listedPairs checks the pairs of variables that the patch keeps for a later one.
func (c *checker) listedPairs() {
	of := make(map[uint64]uint64)
	for _, p := range c.patch.Pairs {
		o, n := uint64(p[0]), uint64(p[1])
		if other, ok := of[o]; ok && other != n {
			c.at("pairs", n)
			c.fault(Variable, "it is paired with %#x, and so is %#x", o, other)
		}
		of[o] = n
		if k := slotKey(c.fixed, n); k != "" {
			continue
		}
		w := c.data.find(n)
		c.at("pairs", n)
		switch {
		case w.sure && w.addr == o || slices.Contains(w.ends, o):
			c.report.Proved.Pairs++
		case w.sure:
			c.fault(Variable, "it is paired with %#x, and it is %#x: %s", o, w.addr, w.why)
		case w.fresh:
			c.fault(Variable, "it is paired with %#x: %s", o, w.why)
		case len(w.near) > 0 && !slices.Contains(w.near, o):
			c.fault(Variable, "it is paired with %#x, where nothing around it is", o)
		}
	}
}

// flags checks what the patch says of itself.
func (c *checker) flags() {
	c.at(c.patch.Module, 0)
	if c.escapes[0] && !c.patch.Escapes {
		c.fault(Flags, "addresses of its code leave it, and it says that none does")
	}
	if c.escapes[1] && !c.patch.DataEscapes {
		c.fault(Flags, "addresses of its data leave it, and it says that none does")
	}
	if c.patch.EntryAllowed && len(c.patch.Steers) != 1 {
		c.fault(Flags, "%d functions are steered, and it says that they may be exchanged one by one", len(c.patch.Steers))
	}
	at, n := uint64(c.patch.Header)+overlayBias, c.patch.HeaderLen
	b := c.overlay(at, n)
	if p := c.pieceAt(at); b == nil || p.prot != patch.ReadOnly || bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) {
		c.fault(Layout, "the header's room is not %d zeros of a read-only piece", n)
	}
}
