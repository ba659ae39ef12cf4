package debuginfo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A Use is a function that differs, and the static data that it refers to.
type Use struct {
	Name             string
	Old, New         uint64 // entries; Old is 0 for a function that was added
	OldData, NewData []uint64
	Exported         bool // other modules may call it
}

// Kind says what differs.
type Kind uint8

// The kinds of findings.
const (
	Moved     Kind = iota // objects look otherwise
	Renumber              // a name of an enum has another value
	Parameter             // an exported function has other parameters
	Padding               // a field was added where nothing was before
)

// A Finding is one difference.
type Finding struct {
	Kind         Kind
	Name, Detail string
}

// ErrTooMuch means that debug information has more entries than are looked at.
var ErrTooMuch = errors.New("debug information is too large")

// Compare compares the types that functions use in two builds.
func Compare(old, new *Info, uses []Use) ([]Finding, error) {
	var out []Finding
	var roots, newRoots []ref
	var want [2]map[uint64]bool
	for k := range want {
		want[k] = make(map[uint64]bool)
	}
	for _, u := range uses {
		if u.Old != 0 {
			want[0][u.Old] = true
		}
		want[1][u.New] = true
	}
	a, b := old.scan(want[0]), new.scan(want[1])
	x, y := make(map[string][]*Layout), make(map[string][]*Layout)
	for _, u := range uses {
		f, g := a.funcs[u.Old], b.funcs[u.New]
		if f != nil {
			roots = append(append(roots, f.roots...), a.at(u.OldData)...)
		}
		if g != nil {
			newRoots = append(append(newRoots, g.roots...), b.at(u.NewData)...)
		}
		if f != nil && g != nil && u.Exported {
			if was, is := old.signature(f.at, 0), new.signature(g.at, 0); was != is {
				out = append(out, Finding{Parameter, f.name, fmt.Sprintf("exported, and %s becomes %s", was, is)})
			}
		}
	}
	old.reach(roots, x)
	new.reach(newRoots, y)
	// What only one build's functions use may be in the other's units all the same.
	all, other := make(map[string][]*Layout), make(map[string][]*Layout)
	old.reach(a.named, all)
	new.reach(b.named, other)
	fill(x, y, all)
	fill(y, x, other)
	for _, key := range slices.Sorted(maps.Keys(y)) {
		out = append(out, compareAll(x[key], y[key])...)
	}
	for _, name := range slices.Sorted(maps.Keys(b.types)) {
		was, is := a.types[name], b.types[name]
		if len(was) > 0 && !slices.ContainsFunc(is, func(s string) bool {
			return slices.ContainsFunc(was, func(t string) bool { return sameType(t, s) })
		}) {
			out = append(out, Finding{Moved, name, fmt.Sprintf("the variable is %s, and %s in the fixed build", was[0], is[0])})
		}
	}
	if old.spent() || new.spent() {
		return nil, ErrTooMuch
	}
	return out, nil
}

func (s *scan) at(data []uint64) []ref {
	var out []ref
	for _, a := range data {
		if t, ok := s.vars[a]; ok {
			out = append(out, t)
		}
	}
	return out
}

func fill(x, y, all map[string][]*Layout) {
	for key := range y {
		if x[key] == nil && all[key] != nil {
			x[key] = all[key]
		}
	}
}

// compareAll compares the types of one name; where there are several, each has
// to be like one of the others.
func compareAll(olds, news []*Layout) []Finding {
	if len(olds) == 0 {
		return nil
	}
	var least []Finding
	for _, n := range news {
		best := compareLayouts(olds[0], n)
		for _, o := range olds[1:] {
			if f := compareLayouts(o, n); len(f) < len(best) {
				best = f
			}
		}
		least = append(least, best...)
	}
	return least
}

func compareLayouts(o, n *Layout) []Finding {
	name := n.Kind + " " + n.Name
	moved := func(format string, args ...any) []Finding {
		return []Finding{{Moved, name, fmt.Sprintf(format, args...)}}
	}
	if o.Size != n.Size {
		return moved("has %d bytes and %d in the fixed build", o.Size, n.Size)
	}
	if n.Kind == "enum" {
		return compareValues(o, n, name)
	}
	was := make(map[string]Field)
	for _, f := range o.Fields {
		was[f.Name] = f
	}
	is := make(map[string]bool)
	for _, f := range n.Fields {
		is[f.Name] = true
	}
	for _, f := range o.Fields { // the arm of a union that became another one
		k := slices.IndexFunc(n.Fields, func(g Field) bool { _, ok := was[g.Name]; return !ok && !sameType(f.Type, g.Type) })
		if n.Kind == "union" && !is[f.Name] && k >= 0 {
			return moved("%s is %s, and %s is %s in the fixed build", f.Name, f.Type, n.Fields[k].Name, n.Fields[k].Type)
		}
	}
	var out []Finding
	for _, f := range n.Fields {
		g, ok := was[f.Name]
		switch {
		case ok && (g.Bits != f.Bits || g.Length != f.Length):
			return moved("%s lies at bit %d with %d bits, and at %d with %d in the fixed build", f.Name, g.Bits, g.Length, f.Bits, f.Length)
		case ok && !sameType(g.Type, f.Type):
			return moved("%s is %s, and %s in the fixed build", f.Name, g.Type, f.Type)
		case ok:
			continue
		}
		free := n.Kind != "union" // in a union new members share their place
		for _, g := range o.Fields {
			if n.Kind == "union" || g.Bits+g.Length <= f.Bits || f.Bits+f.Length <= g.Bits {
				continue
			}
			free = false
			if is[g.Name] || g.Bits != f.Bits || g.Length != f.Length || !sameType(g.Type, f.Type) {
				return moved("%s lies where %s was", f.Name, g.Name)
			}
		}
		if free && f.Length > 0 {
			out = append(out, Finding{Padding, name, fmt.Sprintf("%s is new, at bit %d, where nothing was: objects made before have no value for it", f.Name, f.Bits)})
		}
	}
	return out
}

// sameType compares descriptions of types; a pointer to anything is like any other.
func sameType(a, b string) bool {
	return a == b || a == "*void" && b[0] == '*' || b == "*void" && a[0] == '*'
}

func compareValues(o, n *Layout, name string) []Finding {
	was := make(map[string]int64)
	last := func(l *Layout) string {
		if len(l.Values) == 0 {
			return ""
		}
		return slices.MaxFunc(l.Values, func(a, b Value) int { return int(min(max(a.Value-b.Value, -1), 1)) }).Name
	}
	for _, v := range o.Values {
		was[v.Name] = v.Value
	}
	for _, v := range n.Values {
		// The last one counts the others where values were added before it.
		count := v.Name == last(o) && v.Name == last(n) && len(n.Values)-len(o.Values) == int(v.Value-was[v.Name])
		if w, ok := was[v.Name]; ok && w != v.Value && !count {
			return []Finding{{Renumber, name, fmt.Sprintf("%s is %d, and %d in the fixed build", v.Name, w, v.Value)}}
		}
	}
	return nil
}
