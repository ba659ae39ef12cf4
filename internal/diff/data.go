package diff

import (
	"slices"
	"sort"

	"hotpatch/internal/module"
)

type tally = map[*module.Func]int

// ballot collects what references at the same place of paired code say.
type ballot struct {
	funcs, funcsBack map[*module.Func]tally
	objects          map[[2]module.Addr][]*module.Func // who voted; nil for a name or a slot
	constants        map[[2]module.Addr]int
	copies           [2][]copied      // of the baseline, and of the fixed build
	named            [][2]module.Addr // see namedSlots
}

func newBallot() *ballot {
	b := &ballot{}
	b.reset()
	return b
}

func (b *ballot) reset() {
	b.funcs, b.funcsBack = make(map[*module.Func]tally), make(map[*module.Func]tally)
	b.objects = make(map[[2]module.Addr][]*module.Func)
	b.constants = make(map[[2]module.Addr]int)
}

func (b *ballot) function(o, n *module.Func) {
	for _, v := range []struct {
		in   map[*module.Func]tally
		a, b *module.Func
	}{{b.funcs, o, n}, {b.funcsBack, n, o}} {
		if v.in[v.a] == nil {
			v.in[v.a] = make(tally)
		}
		v.in[v.a][v.b]++
	}
}

func (b *ballot) object(o, n module.Addr, by *module.Func) {
	b.objects[[2]module.Addr{o, n}] = append(b.objects[[2]module.Addr{o, n}], by)
}

func (b *ballot) constant(o, n module.Addr) { b.constants[[2]module.Addr{o, n}]++ }

// A segment is a stretch of a section between two paired addresses with
// nothing paired in between, in both builds. Where both have the same length,
// the layout between them is the same.
type segment struct {
	old, new module.Range
	sure     bool // same length and nothing in it is paired elsewhere
	added    *insertion
}

// dataPairs says which writable object of the fixed build is which of the baseline.
type dataPairs struct {
	toOld, toNew map[module.Addr]module.Addr
	segments     []segment // by new.Start
	copies       []copied  // the fixed build's
	copiedFrom   map[module.Addr]module.Addr
	conflicts    [][2]module.Addr
	dissent      map[*module.Func]string // functions whose reference leads to another object now
}

// Old is where the baseline keeps the byte that the fixed build keeps at a.
func (d *dataPairs) Old(a module.Addr) (module.Addr, bool) {
	if o, paired, copied := d.oldCopy(a); copied {
		return o, paired
	}
	if o, ok := d.toOld[a]; ok {
		return o, true
	}
	if s := d.segment(a); s != nil {
		return s.oldAt(a)
	}
	return 0, false
}

func (d *dataPairs) segment(a module.Addr) *segment {
	i := sort.Search(len(d.segments), func(i int) bool { return d.segments[i].new.Start > a }) - 1
	if i >= 0 && d.segments[i].new.Contains(a) {
		return &d.segments[i]
	}
	return nil
}

// resolve turns votes into pairs. An address whose votes disagree goes to the
// clear majority, and who voted otherwise refers to something else now, if
// both are paired. Without a clear majority it is a conflict, and so it is
// where one of the two is not paired: the end of an array looks like the
// object behind it, which may be a new one.
func (b *ballot) resolve(old, new *module.Module) dataPairs {
	d := dataPairs{
		toOld: make(map[module.Addr]module.Addr), toNew: make(map[module.Addr]module.Addr),
		dissent: make(map[*module.Func]string),
	}
	type cand struct {
		pair [2]module.Addr
		n    int
	}
	byOld, byNew := make(map[module.Addr][]cand), make(map[module.Addr][]cand)
	for p, by := range b.objects {
		byOld[p[0]] = append(byOld[p[0]], cand{p, len(by)})
		byNew[p[1]] = append(byNew[p[1]], cand{p, len(by)})
	}
	clear := func(list []cand, p [2]module.Addr, n int) bool {
		for _, c := range list {
			if c.pair != p && c.n*2 >= n {
				return false
			}
		}
		return true
	}
	for p, by := range b.objects {
		if clear(byOld[p[0]], p, len(by)) && clear(byNew[p[1]], p, len(by)) {
			d.toNew[p[0]], d.toOld[p[1]] = p[1], p[0]
		}
	}
	for p, by := range b.objects {
		_, okO := d.toNew[p[0]]
		_, okN := d.toOld[p[1]]
		switch {
		case d.toNew[p[0]] == p[1] && okO:
		case okO && okN:
			for _, f := range by {
				if f != nil {
					d.dissent[f] = "refers to another object at " + p[1].String()
				}
			}
		default:
			d.conflicts = append(d.conflicts, p)
		}
	}
	slices.SortFunc(d.conflicts, func(a, b [2]module.Addr) int { return int(int64(a[0]) - int64(b[0])) })
	d.pairCopies(b.copies)
	for i := range new.Sections {
		sn := &new.Sections[i]
		so := old.Section(sn.Name)
		switch {
		case !sn.Write || sn.TLS:
		case so == nil:
			d.segments = append(d.segments, segment{new: sn.Range})
		default:
			for _, r := range around([2]*module.Module{old, new}, [2]*module.Section{so, sn}, b.copies) {
				d.segments = append(d.segments, d.cut(r[0], r[1])...)
			}
		}
	}
	sort.Slice(d.segments, func(i, j int) bool { return d.segments[i].new.Start < d.segments[j].new.Start })
	return d
}

// cut divides a stretch of a section at its paired addresses.
func (d *dataPairs) cut(so, sn module.Range) []segment {
	var all [][2]module.Addr
	for o, n := range d.toNew {
		if so.Contains(o) && sn.Contains(n) && o != so.Start {
			all = append(all, [2]module.Addr{o, n})
		}
	}
	slices.SortFunc(all, func(a, b [2]module.Addr) int { return int(int64(a[0]) - int64(b[0])) })
	idx := make([][2]int, len(all))
	for i, p := range all {
		idx[i] = [2]int{i, int(p[1])}
	}
	var out []segment
	lo, k := [2]module.Addr{so.Start, sn.Start}, 0
	add := func(hi [2]module.Addr, strays bool) {
		s := segment{module.Range{Start: lo[0], End: hi[0]}, module.Range{Start: lo[1], End: hi[1]}, false, nil}
		s.sure = s.old.Len() == s.new.Len() && !strays
		if s.new.End > s.new.Start {
			out = append(out, s)
		}
		lo = hi
	}
	stray := make(map[module.Addr]bool)
	chain := longestIncreasing(idx)
	for _, p := range chain {
		strays := p[0] > k
		for _, q := range all[k:p[0]] {
			stray[q[1]] = true
		}
		add(all[p[0]], strays)
		k = p[0] + 1
	}
	for _, q := range all[k:] {
		stray[q[1]] = true
	}
	add([2]module.Addr{so.End, sn.End}, k < len(all))
	for i := range out {
		for a := range stray {
			if out[i].new.Contains(a) {
				out[i].sure = false
			}
		}
	}
	return out
}

// voteByNames pairs exported objects, and what has another kind of name.
func (c *comparer) voteByNames() {
	for _, p := range c.votes.named {
		c.vote(p[0], p[1], nil)
	}
	objects := func(m *module.Module) map[string]module.Addr {
		out := make(map[string]module.Addr)
		for _, s := range m.Symbols {
			if sec := m.SectionAt(s.Addr); s.Defined && s.Dynamic && s.Name != "" && sec != nil && !sec.Exec && sec.Write {
				out[s.Name+"@"+s.Version] = s.Addr
			}
		}
		return out
	}
	news := objects(c.New)
	for name, o := range objects(c.Old) {
		if n, ok := news[name]; ok {
			c.vote(o, n, nil)
		}
	}
}

// voteBySlots lets paired tables say what their slots pair.
func (c *comparer) voteBySlots() {
	for i := range c.data.segments {
		s := &c.data.segments[i]
		if !s.sure && s.added == nil {
			continue
		}
		for _, r := range c.New.RelocsIn(s.new) {
			a, _ := s.oldAt(r.Addr)
			o, okO := c.Old.RelocAt(a)
			was, leadsO := o.Leads()
			is, leadsN := r.Leads()
			if okO && leadsO && leadsN {
				c.vote(was, is, nil)
			}
		}
	}
}

// voteByBodies lets the common instructions of changed bodies pair objects
// that no unchanged code refers to. They may be aligned wrongly, so that a
// pair counts only where the objects around it leave no other place, or where
// several functions agree; whatever else they say is a conflict.
func (c *comparer) voteByBodies() {
	votes := make(map[module.Addr]map[module.Addr]map[*module.Func]bool) // fixed, baseline, by whom
	back := make(map[module.Addr]map[module.Addr]bool)
	for _, n := range c.New.Funcs {
		o := c.toOld[n]
		if o == nil || o.Hash == n.Hash || o.Opaque || n.Opaque {
			continue
		}
		c.alignedRefs(o, n, func(x, y *module.Ref) {
			so, sn := c.Old.SectionAt(x.Target), c.New.SectionAt(y.Target)
			if so == nil || sn == nil || so.Name != sn.Name || so.Exec {
				return
			}
			if !so.Write {
				c.votes.constant(x.Target, y.Target)
				return
			}
			_, k1 := c.data.toOld[y.Target]
			_, k2 := c.data.toNew[x.Target]
			if isGOT(so) || k1 || k2 || c.votes.copied(x.Target, y.Target) {
				return
			}
			if votes[y.Target] == nil {
				votes[y.Target] = make(map[module.Addr]map[*module.Func]bool)
			}
			if votes[y.Target][x.Target] == nil {
				votes[y.Target][x.Target] = make(map[*module.Func]bool)
			}
			votes[y.Target][x.Target][n] = true
			if back[x.Target] == nil {
				back[x.Target] = make(map[module.Addr]bool)
			}
			back[x.Target][y.Target] = true
		})
	}
	var conflicts [][2]module.Addr
	for n, olds := range votes {
		s := c.data.segment(n)
		if s != nil && s.sure {
			if was, _ := c.data.Old(n); olds[was] == nil {
				conflicts = append(conflicts, [2]module.Addr{was, n})
			}
			continue
		}
		for o, by := range olds {
			fits := s != nil && s.old.Contains(o) && (o-s.old.Start == n-s.new.Start || s.old.End-o == s.new.End-n)
			if len(olds) > 1 || len(back[o]) > 1 || !fits && len(by) < 2 {
				conflicts = append(conflicts, [2]module.Addr{o, n})
				continue
			}
			c.votes.object(o, n, nil)
		}
	}
	c.resolve()
	c.data.conflicts = append(c.data.conflicts, conflicts...)
	slices.SortFunc(c.data.conflicts, func(a, b [2]module.Addr) int { return int(int64(a[0]) - int64(b[0])) })
}

// alignedRefs calls f with the references of instructions that two bodies have in common.
func (c *comparer) alignedRefs(o, n *module.Func, f func(x, y *module.Ref)) {
	a, b := c.body(c.Old, o), c.body(c.New, n)
	for _, r := range align(a, b, exact) {
		for k := range r.n {
			xs, ys := o.RefsOf(&a[r.i+k]), n.RefsOf(&b[r.j+k])
			for i := range min(len(xs), len(ys)) {
				f(&xs[i], &ys[i])
			}
		}
	}
}
