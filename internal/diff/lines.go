package diff

import (
	"fmt"
	"regexp"
	"slices"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// A lineSite is a place where a source line number is passed to a call that is
// passed the name of its source file in the argument before, or before that of
// the function: an assertion or a log message.
type lineSite struct {
	fn       *module.Func
	file     string
	old, new int64
}

var sourceFile = regexp.MustCompile(`\.(c|cc|cpp|cxx|c\+\+|C|h|hh|hpp|hxx|inl|inc|y|l|def)$`)

// onlyLineNumbers reports whether two bodies differ in line numbers alone.
// The lines of one file move together: a number counts as a line only when
// its neighbour in that file moved by the same distance. When unsure it says no.
func (c *comparer) onlyLineNumbers(o, n *module.Func) bool {
	if c.lines == nil {
		c.findLines()
	}
	return c.lines[n]
}

func (c *comparer) findLines() {
	c.lines = make(map[*module.Func]bool)
	sites := make(map[string][]lineSite)
	for _, n := range c.New.Funcs {
		o := c.toOld[n]
		if o == nil || o.Hash == n.Hash || o.Insts != n.Insts || o.Opaque || n.Opaque {
			continue
		}
		if found, ok := c.lineSites(o, n); ok {
			c.lines[n] = true
			for _, s := range found {
				sites[s.file] = append(sites[s.file], s)
			}
		}
	}
	for _, list := range sites {
		slices.SortStableFunc(list, func(a, b lineSite) int { return int(a.old - b.old) })
		for i, s := range list {
			d := s.new - s.old
			agrees := i > 0 && list[i-1].new-list[i-1].old == d && list[i-1].old != s.old ||
				i+1 < len(list) && list[i+1].new-list[i+1].old == d && list[i+1].old != s.old
			if !agrees {
				c.lines[s.fn] = false
			}
		}
	}
	for _, n := range c.New.Funcs {
		if o := c.toOld[n]; c.lines[n] {
			if why := c.refsDiffer(o, n); why != "" {
				c.lines[n] = false
				continue
			}
			found, _ := c.lineSites(o, n)
			for _, s := range found {
				c.Omissions = append(c.Omissions, Omission{n, "line number", fmt.Sprintf("%s:%d becomes %d", s.file, s.old, s.new)})
			}
		}
	}
}

// lineSites are the differences of two bodies, if all of them look like line numbers.
func (c *comparer) lineSites(o, n *module.Func) ([]lineSite, bool) {
	a, b := c.body(c.Old, o), c.body(c.New, n)
	var out []lineSite
	calls := make(map[int]bool)
	if len(a) != len(b) || len(o.Refs) != len(n.Refs) {
		return nil, false
	}
	for i := range a {
		p, q := &a[i], &b[i]
		if p.Key == q.Key {
			if own := p.Kind == x86.Jmp || p.Kind == x86.Jcc; own && p.Ref < 0 && !c.sameTarget(o, n, p, q) {
				return nil, false
			}
			continue
		}
		if p.Shape != q.Shape || p.Disp != q.Disp || p.ImmLen == 0 || argument(p) < 1 {
			return nil, false
		}
		file, call := fileNear(c.New, n, b, i)
		was, _ := fileNear(c.Old, o, a, i)
		if file == "" || file != was || calls[call] || p.Imm <= 0 || q.Imm <= 0 || max(p.Imm, q.Imm) > 200000 {
			return nil, false
		}
		calls[call] = true // one line number a call
		out = append(out, lineSite{n, file, p.Imm, q.Imm})
	}
	return out, len(out) > 0
}

// sameTarget reports whether two jumps inside their functions lead to the same place.
func (c *comparer) sameTarget(o, n *module.Func, p, q *module.Instr) bool {
	a, b := c.body(c.Old, o), c.body(c.New, n)
	at := func(body []module.Instr, t module.Addr) int {
		return slices.IndexFunc(body, func(i module.Instr) bool { return i.At >= t })
	}
	return at(a, module.Addr(p.Target(uint64(p.At)))) == at(b, module.Addr(q.Target(uint64(q.At))))
}

// argument is the position of the argument that an instruction moves a number
// or an address to (psABI 3.2.3: rdi, rsi, rdx, rcx, r8, r9), or -1.
func argument(in *module.Instr) int {
	var reg byte
	switch {
	case in.Map != 0 || in.VEX:
		return -1
	case in.Opcode&0xf8 == 0xb8 && in.ImmLen == 4:
		reg = in.Opcode&7 | in.REX&1<<3
	case in.Opcode == 0x8d:
		reg = in.ModRM>>3&7 | in.REX&4<<1
	default:
		return -1
	}
	return slices.Index([]byte{7, 6, 2, 1, 8, 9}, reg)
}

// fileNear is the name of a source file whose address is the argument before
// the one that instruction i sets, or one earlier, and the call that both are for.
func fileNear(m *module.Module, f *module.Func, body []module.Instr, i int) (file string, call int) {
	const reach = 14 // instructions that set up one call
	end := -1
	for k := i + 1; k < len(body) && k < i+reach; k++ {
		if body[k].Kind == x86.Call || body[k].Kind == x86.CallInd {
			end = k
			break
		}
		if body[k].Kind != x86.Other && body[k].Kind != x86.Jmp {
			return "", 0
		}
	}
	for k := end - 1; k >= 0 && k > end-reach; k-- {
		if body[k].Kind == x86.Call || body[k].Kind == x86.Ret {
			return "", 0
		}
		before := argument(&body[i]) - argument(&body[k])
		if r := body[k].Ref; r >= 0 && f.Refs[r].Kind == module.RefAddress && argument(&body[k]) >= 0 && (before == 1 || before == 2) {
			s := m.SectionAt(f.Refs[r].Target)
			if s == nil || s.Write || s.Exec {
				continue
			}
			if t := m.Text(f.Refs[r].Target); sourceFile.MatchString(t) {
				return t, end
			}
		}
	}
	return "", 0
}
