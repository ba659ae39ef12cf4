package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// tally counts the pairs of one kind.
type tally struct {
	right      int // the symbols say the same
	wrong      int // the symbols say otherwise
	equivalent int // another, but nothing tells the two apart: same code, same references; or same content
	vague      int // no symbol, several of one name, or names that only one build has
	moved      int // the same object, another place in it: only its type can tell
	missed     int // the symbols know a pair, the pairing does not
}

func (t *tally) add(o tally) {
	t.right += o.right
	t.wrong += o.wrong
	t.equivalent += o.equivalent
	t.vague += o.vague
	t.moved += o.moved
	t.missed += o.missed
}

// finding is what was found of one file.
type finding struct {
	name                       string
	changed                    int
	verdict                    string
	functions, data, constants tally
	notes                      []string
	verbose                    bool
}

var columns = []string{"changed", "verdict", "functions: right", "wrong", "equivalent", "no name", "not paired", "data: right", "wrong", "moved inside", "no name", "constants: right", "wrong", "equivalent", "no name"}

func (f *finding) row() []string {
	var out []string
	out = append(out, fmt.Sprint(f.changed), f.verdict)
	for _, n := range []int{
		f.functions.right, f.functions.wrong, f.functions.equivalent, f.functions.vague, f.functions.missed,
		f.data.right, f.data.wrong, f.data.moved, f.data.vague,
		f.constants.right, f.constants.wrong, f.constants.equivalent, f.constants.vague,
	} {
		out = append(out, fmt.Sprint(n))
	}
	return out
}

func (f *finding) wrong() int { return f.functions.wrong + f.data.wrong + f.constants.wrong }

func (f *finding) add(o *finding) {
	f.changed += o.changed
	f.functions.add(o.functions)
	f.data.add(o.data)
	f.constants.add(o.constants)
}

// comparison holds the pairing of the stripped copies against the symbols.
type comparison struct {
	*finding
	old, new *module.Module // stripped
	so, sn   *symbols
	r        *diff.Result
}

// errSame says that the two builds are one.
var errSame = errors.New("both builds are the same")

func compare(oldPath, newPath string, verbose bool) (*finding, error) {
	c := &comparison{finding: &finding{verbose: verbose}}
	for i, path := range []string{oldPath, newPath} {
		full, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		s, err := readSymbols(full)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		stripped, err := strip(path)
		if err != nil {
			return nil, err
		}
		m, err := module.New(stripped, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if i == 0 {
			c.old, c.so = m, s
		} else {
			c.new, c.sn = m, s
		}
	}
	if c.old.Identity == c.new.Identity {
		return nil, errSame
	}
	var err error
	if c.r, err = diff.Compare(c.old, c.new); err != nil {
		return nil, err
	}
	c.changed, c.verdict = len(c.r.Changes), string(c.r.Verdict)
	c.compareFunctions()
	c.compareData()
	c.compareConstants()
	return c.finding, nil
}

// strip gives the bytes of a file as a distribution ships it: no symbols, no
// debug information, no relocations but those of the loader.
func strip(path string) ([]byte, error) {
	out := path + ".stripped"
	if text, err := exec.Command("strip", "--strip-all", "--remove-section=.rela.[!dp]*", "-o", out, path).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("strip %s: %w: %s", path, err, text)
	}
	defer os.Remove(out)
	return os.ReadFile(out)
}

func (c *comparison) say(format string, args ...any) {
	if c.verbose {
		fmt.Printf("  "+format+"\n", args...)
	}
}

func common(x, y []label) bool {
	return slices.ContainsFunc(x, func(l label) bool { return slices.Contains(y, l) })
}

func (c *comparison) compareFunctions() {
	t := &c.functions
	byName := map[label]*module.Func{} // the baseline's
	for _, f := range c.old.Funcs {
		names, _ := c.so.at(f.Entry(), c.sn)
		for _, n := range names {
			byName[n] = f
		}
	}
	for _, f := range c.new.Funcs {
		names, _ := c.sn.at(f.Entry(), c.so)
		names = slices.DeleteFunc(names, func(l label) bool { return l.off != 0 })
		o := c.r.OldOf(f)
		var truth *module.Func
		for _, n := range names {
			if b := byName[n]; b != nil {
				truth = b
			}
		}
		switch {
		case o == nil && truth != nil && !truth.Orphan && !f.Orphan:
			t.missed++
			c.say("not paired: %v, %v in the baseline, hash equal %v", names, truth.Entry(), truth.Hash == f.Hash)
		case o == nil:
		case o == truth:
			t.right++
		case truth == nil && len(names) == 0:
			t.vague++
		default:
			was, vague := c.so.at(o.Entry(), c.sn)
			switch {
			case common(was, names):
				t.right++
			case vague || len(was) == 0 || truth == nil && c.gone(was):
				t.vague++
			case truth != nil && c.interchangeable(o, truth):
				t.equivalent++
			default:
				t.wrong++
				fmt.Printf("  wrong: function %v at %v is paired with %v at %v\n", names, f.Entry(), was, o.Entry())
			}
		}
	}
}

// gone says that none of the baseline's names is in the fixed build: with a new
// name there, the symbols know no counterpart.
func (c *comparison) gone(was []label) bool {
	return !slices.ContainsFunc(was, func(l label) bool {
		name, _, _ := strings.Cut(l.key, " (") // which of several it is
		return len(c.sn.byKey[name]) > 0
	})
}

// interchangeable says that two functions of the baseline have the same code
// and the same references: nothing but their place tells them apart.
func (c *comparison) interchangeable(x, y *module.Func) bool {
	if x.Hash != y.Hash || len(x.Refs) != len(y.Refs) {
		return false
	}
	for i := range x.Refs {
		if x.Refs[i].Target != y.Refs[i].Target && !(x.Contains(x.Refs[i].Target) && y.Contains(y.Refs[i].Target)) {
			return false
		}
	}
	return true
}

// compareData looks at every variable that the pairing names or that code of
// the fixed build refers to.
func (c *comparison) compareData() {
	pairs := map[module.Addr]module.Addr{} // fixed, baseline
	for _, p := range c.r.DataPairs() {
		pairs[p[1]] = p[0]
	}
	for _, f := range c.new.Funcs {
		for i := range f.Refs {
			n := f.Refs[i].Target
			if s := c.new.SectionAt(n); s == nil || !s.Write {
				continue
			}
			if o, ok := c.r.OldData(n); ok {
				pairs[n] = o
			}
		}
	}
	for _, n := range sorted(pairs) {
		c.compareObject(&c.data, "variable", pairs[n], n)
	}
}

func (c *comparison) compareObject(t *tally, what string, o, n module.Addr) {
	was, vagueOld := c.so.at(o, c.sn)
	is, vagueNew := c.sn.at(n, c.so)
	switch {
	case common(was, is):
		t.right++
	case slices.ContainsFunc(c.so.end(o), func(k string) bool { return slices.Contains(c.sn.end(n), k) }) && (len(was) == 0 || len(is) == 0):
		t.right++ // the end of the same object
	case inOneObject(was, is):
		t.moved++
		c.notes = append(c.notes, fmt.Sprintf("%v at %v is paired with %v at %v", is, n, was, o))
	case vagueOld || vagueNew || len(was) == 0 && len(is) == 0:
		t.vague++
		c.say("no name: %s %v %v, %v %v", what, n, is, o, was)
	default:
		t.wrong++
		fmt.Printf("  wrong: %s %v at %v is paired with %v at %v (end of %v, %v)\n", what, is, n, was, o, c.sn.end(n), c.so.end(o))
	}
}

// inOneObject says that both lie inside one object, at different places.
func inOneObject(was, is []label) bool {
	return slices.ContainsFunc(was, func(l label) bool {
		return l.off > 0 && slices.ContainsFunc(is, func(m label) bool { return m.key == l.key && m.off > 0 })
	})
}

// compareConstants looks at every read-only object that code of the fixed build
// refers to and that the pairing records. One with the same content under
// another name is equivalent.
func (c *comparison) compareConstants() {
	seen := map[module.Addr]module.Addr{}
	for _, f := range c.new.Funcs {
		for i := range f.Refs {
			if o, ok := c.r.OldConstant(f.Refs[i].Target); ok {
				seen[f.Refs[i].Target] = o
			}
		}
	}
	for _, n := range sorted(seen) {
		o := seen[n]
		was, vagueOld := c.so.at(o, c.sn)
		is, vagueNew := c.sn.at(n, c.so)
		same := c.old.Text(o) == c.new.Text(n)
		switch {
		case common(was, is):
			c.constants.right++
		case len(was) == 0 && len(is) == 0 && same && c.old.Text(o) != "":
			c.constants.right++ // a text without a name
		case len(was) == 0 && len(is) == 0, vagueOld, vagueNew:
			c.constants.vague++
		case same && c.sameBytes(o, n, was, is):
			c.constants.equivalent++
		default:
			c.constants.wrong++
			fmt.Printf("  wrong: constant %v at %v is paired with %v at %v\n", is, n, was, o)
		}
	}
}

// sameBytes compares as much as the symbols say that the objects hold.
func (c *comparison) sameBytes(o, n module.Addr, was, is []label) bool {
	size := uint64(0)
	for _, y := range c.so.starts[o] {
		size = max(size, y.size)
	}
	for _, y := range c.sn.starts[n] {
		size = max(size, y.size)
	}
	if size == 0 {
		return false
	}
	a := c.old.Bytes(module.Range{Start: o, End: o + module.Addr(size)})
	b := c.new.Bytes(module.Range{Start: n, End: n + module.Addr(size)})
	return a != nil && slices.Equal(a, b)
}

func sorted(pairs map[module.Addr]module.Addr) []module.Addr {
	var out []module.Addr
	for a := range pairs {
		out = append(out, a)
	}
	slices.Sort(out)
	return out
}
