package diff

import (
	"cmp"
	"maps"
	"slices"
	"sort"

	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
	"hotpatch/internal/module/x86"
)

// A state is what registers and stack hold at one place.
type state struct {
	regs  [32]*value // general registers, then vector registers
	stack map[int64]*value
	rsp   int64
	live  [16]bool // registers that were written
}

// A block is a run of instructions that only its first is jumped to.
type block struct {
	first, end int // indexes into the body
	next       []int
	in         *state
	done       bool
}

// run follows all blocks of a body, each after those that lead to it but for
// the ways back of loops.
func (w *flow) run(body []module.Instr) {
	blocks := w.blocks(body)
	seen := make([]bool, len(blocks))
	for start := range blocks {
		if seen[start] {
			continue
		}
		order := postOrder(blocks, seen, start)
		slices.Reverse(order)
		if blocks[start].in == nil {
			blocks[start].in = w.entryState(body, blocks, start)
		}
		for _, b := range order {
			w.block(body, blocks, b)
		}
	}
}

// entryState is what is known where a block begins that no other one is known
// to lead to: the arguments at the function's entry; elsewhere, as at a landing
// pad, nothing but where the frame is.
func (w *flow) entryState(body []module.Instr, blocks []block, start int) *state {
	s := &state{stack: make(map[int64]*value)}
	for i := range s.regs {
		arg := byte(i)
		switch arg {
		case w.swapped[0]:
			arg = w.swapped[1]
		case w.swapped[1]:
			arg = w.swapped[0]
		}
		v := opaque(tagArg, uint64(arg))
		if v.vague = start > 0; start > 0 { // not the entry: nothing is known
			v = opaque(tagResult, uint64(i))
		}
		s.regs[i] = &v
		if i < 16 {
			s.live[i] = start > 0
		}
	}
	frame := opaque(tagFrame, 0)
	s.regs[4] = &frame
	if start > 0 && w.framePointer(body[blocks[start].first].At) {
		s.regs[5] = &frame
	}
	return s
}

// framePointer reports whether the frame is found by rbp at an address, as
// call-frame information says.
func (w *flow) framePointer(a module.Addr) bool {
	const rbp = 6 // DWARF's number (psABI x86-64, figure 3.36)
	f := w.m.CFI.Find(uint64(a))
	if f == nil {
		return false
	}
	row, err := f.Row(uint64(a))
	return err == nil && row.CFA.Kind == cfi.Register && row.CFA.Reg == rbp
}

func (w *flow) block(body []module.Instr, blocks []block, b int) {
	k := &blocks[b]
	if k.in == nil {
		k.in = w.entryState(body, blocks, b)
	}
	w.state = *k.in
	k.in, k.done = nil, true
	w.stack = maps.Clone(w.stack)
	for i := k.first; i < k.end; i++ {
		w.cond = condition(body[i+1:])
		w.step(&body[i])
	}
	out := w.state
	for _, n := range k.next {
		t := &blocks[n]
		switch {
		case t.done:
		case t.in == nil:
			s := out
			t.in = &s
		default:
			t.in = meet2(t.in, &out)
		}
	}
}

// meet2 is what is known where two ways join.
func meet2(a, b *state) *state {
	s := *a
	for i := range s.regs {
		s.regs[i] = either(a.regs[i], b.regs[i])
	}
	for i := range s.live {
		s.live[i] = a.live[i] || b.live[i]
	}
	s.stack = make(map[int64]*value)
	for d, v := range a.stack {
		if u, ok := b.stack[d]; ok {
			s.stack[d] = either(v, u)
		}
	}
	return &s
}

// either is one of two values, nobody knows which.
func either(a, b *value) *value {
	if a == b || a.hash == b.hash && slices.Equal(a.leaves, b.leaves) {
		return a
	}
	if a.shape > b.shape || a.shape == b.shape && a.hash > b.hash {
		a, b = b, a
	}
	v := combine(tagEither, *a, *b)
	v.leaves, v.widths, v.vague = nil, nil, true
	return &v
}

// postOrder lists the blocks that one leads to, each behind those it leads to.
func postOrder(blocks []block, seen []bool, start int) []int {
	var out []int
	type at struct{ b, next int }
	todo := []at{{start, 0}}
	seen[start] = true
	for len(todo) > 0 {
		t := &todo[len(todo)-1]
		if t.next == len(blocks[t.b].next) {
			out = append(out, t.b)
			todo = todo[:len(todo)-1]
			continue
		}
		n := blocks[t.b].next[t.next]
		t.next++
		if !seen[n] {
			seen[n] = true
			todo = append(todo, at{n, 0})
		}
	}
	return out
}

// positions finds the instruction of a function's body at an address, behind
// the NOPs there, which are left out of bodies; -1 for one outside.
func positions(f *module.Func, body []module.Instr) func(module.Addr) int {
	sorted := make([]int, len(body))
	for i := range sorted {
		sorted[i] = i
	}
	slices.SortFunc(sorted, func(a, b int) int { return cmp.Compare(body[a].At, body[b].At) })
	return func(a module.Addr) int {
		k := sort.Search(len(sorted), func(k int) bool { return body[sorted[k]].At >= a })
		if k == len(sorted) || !f.Contains(a) {
			return -1
		}
		return sorted[k]
	}
}

// blocks cuts a body where jumps lead to and after them.
func (w *flow) blocks(body []module.Instr) []block {
	at := positions(w.f, body)
	find := func(in *module.Instr) int { return at(module.Addr(in.Target(uint64(in.At)))) }
	first := make([]bool, len(body)+1)
	first[0] = true
	mark := func(i int) {
		if i >= 0 && i < len(body) {
			first[i] = true
		}
	}
	var cases []int
	for _, t := range w.f.Tables {
		for _, i := range t.Targets {
			if int(i) < len(body) && !slices.Contains(cases, int(i)) {
				cases = append(cases, int(i))
				mark(int(i))
			}
		}
	}
	for i := range body {
		switch body[i].Kind {
		case x86.Jmp, x86.Jcc:
			mark(find(&body[i]))
			mark(i + 1)
		case x86.Ret, x86.JmpInd, x86.Trap:
			mark(i + 1)
		}
	}
	var out []block
	index := make([]int, len(body)+1)
	for i := range body {
		if first[i] {
			out = append(out, block{first: i})
		}
		index[i] = len(out) - 1
		out[len(out)-1].end = i + 1
	}
	for k := range out {
		b := &out[k]
		last := &body[b.end-1]
		to := func(i int) {
			if i >= 0 && i < len(body) {
				b.next = append(b.next, index[i])
			}
		}
		switch last.Kind {
		case x86.Jmp:
			to(find(last))
		case x86.Jcc:
			to(find(last))
			to(b.end)
		case x86.JmpInd:
			for _, i := range cases {
				to(i)
			}
		case x86.Ret, x86.Trap:
		default:
			to(b.end)
		}
	}
	return out
}
