package diff

import (
	"bytes"
	"slices"
	"strings"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
)

// onceCalls are given a function that they call the first time only: the
// number of the parameter is left aside, none of them takes another function.
var onceCalls = []string{"pthread_once", "call_once", "CRYPTO_THREAD_run_once"}

// calledOnce are the functions of the baseline whose address is taken for such
// a call and for nothing else.
func (c *comparer) calledOnce() []*module.Func {
	taken := make(map[module.Addr]int) // how often each address is
	for _, list := range [][]*module.Func{c.Old.Funcs, c.Old.Gaps} {
		for _, f := range list {
			for i := range f.Refs {
				taken[f.Refs[i].Target]++
			}
		}
	}
	for _, r := range c.Old.Relocs {
		if a, ok := r.Leads(); ok {
			taken[a]++
		}
	}
	given := make(map[module.Addr]int)
	for _, f := range c.Old.Funcs {
		last := module.Addr(0)
		for i := range f.Refs {
			switch r := &f.Refs[i]; {
			case r.Kind == module.RefAddress && c.Old.FuncAt(r.Target) != nil:
				last = r.Target
			case last != 0 && slices.Contains(onceCalls, importName(c.Old, r.Target)):
				given[last]++
				last = 0
			}
		}
	}
	var out []*module.Func
	for a, n := range given {
		if f := c.Old.FuncAt(a); f.Entry() == a && taken[a] == n && !f.Exported {
			out = append(out, f)
		}
	}
	return out
}

// judgeOnce refuses when what a function does the first time that it runs, to
// make its static variables, is not what it did: a process where it ran has
// variables of the baseline (Itanium C++ ABI 3.3.3, One-time Construction API).
func (c *comparer) judgeOnce(o, n *module.Func) {
	had, has := c.onces(c.Old, o), c.onces(c.New, n)
	if len(had) > len(has) {
		had, has = has, had
	}
	for _, once := range had { // one more is made when the new code runs first, one less is not used any more
		i := slices.IndexFunc(has, func(other []uint64) bool { return slices.Equal(once, other) })
		if i < 0 {
			c.refuse(Constructor, n.Name, "makes a static variable the first time that it runs, in another way than it did, and may have made it already")
			return
		}
		has = slices.Delete(has, i, i+1)
	}
}

// onces is what takes effect in each part of a function that a guard lets run
// once, sorted; of the whole function where it is not seen what the guard
// leads to.
func (c *comparer) onces(m *module.Module, f *module.Func) [][]uint64 {
	calls := make(map[module.Addr]string)
	for i := range f.Refs {
		if name := importName(m, f.Refs[i].Target); name == guardAcquire || name == guardRelease {
			calls[f.Refs[i].At] = name
		}
	}
	if len(calls) == 0 {
		return nil
	}
	w, body := c.flowOf(m, f), c.body(m, f)
	blocks := w.blocks(body)
	var out [][]uint64
	for i := range blocks {
		b := &blocks[i]
		last := &body[b.end-1]
		acquired := slices.ContainsFunc(body[b.first:b.end], func(in module.Instr) bool { return calls[in.At] == guardAcquire })
		if !acquired {
			continue
		}
		to := 0
		if last.Kind == x86.Jcc && len(b.next) == 2 {
			if to = b.next[0]; last.Opcode&1 == 0 { // jnz: where it jumps; jz: where it does not
				to = b.next[1]
			}
		}
		inside := map[module.Addr]bool{}
		seen := make([]bool, len(blocks))
		for work := []int{to}; len(work) > 0; {
			k := work[len(work)-1]
			if work = work[:len(work)-1]; seen[k] {
				continue
			}
			seen[k] = true
			released := false
			for _, in := range body[blocks[k].first:blocks[k].end] {
				inside[in.At] = !released
				released = released || calls[in.At] == guardRelease
			}
			if !released {
				work = append(work, blocks[k].next...)
			}
		}
		var effects []uint64
		for _, s := range w.sinks {
			if inside[s.at] {
				effects = append(effects, s.hash)
			}
		}
		for i := range body {
			if inside[body[i].At] {
				effects = append(effects, c.numbersOf(m, f, &body[i])...)
			}
		}
		slices.Sort(effects)
		out = append(out, effects)
	}
	return out
}

// judgeThreadStart refuses when what a function does the first time that a thread
// runs it, to make thread-local variables, may be something else: it sets a byte of
// the thread's own to one that it, or who calls it, asks to be zero (Itanium C++
// ABI 3.3.3).
func (c *comparer) judgeThreadStart(o, n *module.Func) {
	cxx := slices.ContainsFunc(c.Old.Symbols, func(s module.Symbol) bool { return strings.HasPrefix(s.Name, "_Z") || s.Name == "__gxx_personality_v0" })
	if !cxx {
		return // a variable of C has no initialiser that runs
	}
	guards := c.guards(c.Old, o, 0xc6, 1)
	if len(guards) == 0 || len(c.guards(c.New, n, 0xc6, 1)) == 0 {
		return
	}
	for _, f := range append(slices.Clone(c.callers(o)), o) {
		for at := range c.guards(c.Old, f, 0x80, 0) {
			if guards[at] {
				c.refuse(TLSLayout, n.Name, "makes thread-local variables, and has made them in the threads that exist")
				return
			}
		}
	}
}

// guards are the offsets of bytes of thread-local storage that a body sets to a
// number (mov, C6), or compares with it (cmp, 80 /7).
func (c *comparer) guards(m *module.Module, f *module.Func, opcode byte, number int64) map[int64]bool {
	out := make(map[int64]bool)
	body := c.body(m, f)
	dynamic := slices.ContainsFunc(f.Refs, func(r module.Ref) bool { return importName(m, r.Target) == "__tls_get_addr" })
	for i := range body {
		in := &body[i]
		if in.Map == 0 && in.MemSize == 1 && in.Opcode == opcode && (opcode != 0x80 || in.ModRM>>3&7 == 7) && in.Imm == number &&
			(in.Seg == 0x64 || (dynamic || usesTLS(body)) && !in.RIP && !stackBased(in)) {
			out[in.Disp] = true
		}
	}
	return out
}

// numbersOf are hashes of the numbers that an instruction has in it, or refers
// to in constants: what lies in the frame for a call has no other effect.
func (c *comparer) numbersOf(m *module.Module, f *module.Func, in *module.Instr) (out []uint64) {
	const tag = 1 << 32
	if in.ImmLen > 0 && in.ImmAddr == 0 && in.Kind == x86.Other {
		out = append(out, mix(tag, uint64(in.Imm)))
	}
	for _, r := range f.RefsOf(in) {
		s := m.SectionAt(r.Target)
		if s == nil || s.Write || s.Exec {
			continue
		}
		h := uint64(tag)
		for _, b := range bytes.TrimRight(numbersIn(m, module.Range{Start: r.Target, End: m.NextAnchor(r.Target)}), "\x00") {
			h = mix(h, uint64(b))
		}
		out = append(out, h)
	}
	return out
}

// The calls around what runs once.
const guardAcquire, guardRelease = "__cxa_guard_acquire", "__cxa_guard_release"
