package patch

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
	"hotpatch/internal/module/x86"
)

// Build makes the patch that a comparison allows. It returns reasons instead
// of a patch when something that the fixed code refers to has no certain place
// in a process that runs the baseline.
func Build(r *diff.Result, tool string) (*Patch, []diff.Reason, error) {
	if r.Verdict != diff.Patchable {
		return nil, r.Reasons, nil
	}
	b := newBuilder(r, tool)
	b.place()
	b.export()
	for _, c := range r.Changes {
		b.function(c)
	}
	b.old()
	if len(b.reasons) > 0 {
		return nil, b.reasons, nil
	}
	b.link()
	if len(b.reasons) > 0 {
		return nil, b.reasons, nil
	}
	if b.out.leaves() {
		b.out.FixedFile = r.New.File()
	}
	if _, err := b.out.Encode(); err != nil { // sets the ID
		return nil, nil, err
	}
	return b.out, nil, nil
}

// builder gathers the overlay. Code has its place from the beginning; the
// places of what lies behind it are known only once all references are, so
// fields that lead there are kept until link.
type builder struct {
	*diff.Result
	out      *Patch
	reasons  []diff.Reason
	included map[*module.Func]bool
	code     []movedCode // by from.Start
	codeEnd  module.Addr
	islands  map[module.Addr]bool // by overlay address
	puts     []put
	annex    annex
	slots    map[string]annexAt // new GOT slots, by SlotKey
	stubs    map[string]annexAt
	fresh    map[module.Addr]annexAt // stretches of new variables, by start
	copies   map[module.Range]annexAt
	blobs    []blob
	pointers map[module.Addr]target  // in blobs, by fixed address
	indexed  map[module.Addr]bool    // see indexedBefore
	tables   map[module.Addr]annexAt // of jumps and of labels
	oldSlots map[string]module.Addr  // the baseline's slots and stubs, by SlotKey
	oldStubs map[string]module.Addr
	oldText  map[string]module.Addr
	frames   []cfi.Frame
}

// movedCode is a range of the fixed build's code and where the overlay has it.
type movedCode struct {
	from module.Range
	to   module.Addr
}

// put is a field that is to lead to the target: of 32 bits and relative to end,
// or where absolute is not 0 an address of so many bytes. Overlay addresses, or
// places in the annex.
type put struct {
	at, end  annexAt
	to       target
	absolute uint8
}

// target is where a field has to lead.
type target struct {
	where whereabouts
	addr  module.Addr // inOverlay, inBlob: fixed image address; inBaseline: baseline image address
	annex annexAt     // inAnnex
	held  bool        // the program may keep its address, or its value
}

type whereabouts uint8

const (
	nowhere whereabouts = iota // refused
	inOverlay
	inBaseline
	inAnnex
	inBlob
)

func newBuilder(r *diff.Result, tool string) *builder {
	b := &builder{
		Result: r, included: make(map[*module.Func]bool), islands: make(map[module.Addr]bool),
		slots: make(map[string]annexAt), stubs: make(map[string]annexAt), fresh: make(map[module.Addr]annexAt),
		copies: make(map[module.Range]annexAt), pointers: make(map[module.Addr]target), tables: make(map[module.Addr]annexAt),
		oldSlots: make(map[string]module.Addr), oldStubs: make(map[string]module.Addr),
		out: &Patch{
			Module: r.New.Name, Baseline: r.Old.Identity, Fixed: r.New.Identity, Tool: tool, Pairs: r.DataPairs(), Remarks: r.Remarks,
		},
	}
	for _, c := range r.Changes {
		b.included[c.New] = true
	}
	for _, rel := range r.Old.Relocs {
		if k, local, ok := diff.SlotKey(r.Old, rel.Addr); ok && local == 0 && (b.oldSlots[k] == 0 || rel.Type == elf.R_X86_64_GLOB_DAT) {
			b.oldSlots[k] = rel.Addr
		}
	}
	for stub, slot := range r.Old.Stubs() {
		if k, local, ok := diff.SlotKey(r.Old, slot); ok && local == 0 {
			if s := r.Old.SectionAt(stub); b.oldStubs[k] == 0 || s.Name == ".plt.sec" {
				b.oldStubs[k] = stub
			}
		}
	}
	for _, o := range r.Omissions {
		b.out.Omissions = append(b.out.Omissions, Omission{o.Func.Name, o.Reason, o.Detail})
	}
	return b
}

func (b *builder) refuse(code diff.Code, name, format string, args ...any) target {
	r := diff.Reason{Code: code, Name: name, Detail: fmt.Sprintf(format, args...)}
	if !slices.Contains(b.reasons, r) {
		b.reasons = append(b.reasons, r)
	}
	return target{}
}

// place packs the included code, each part aligned as the fixed build has it
// and with its islands around it.
func (b *builder) place() {
	const align = 64 // what compilers align loops and entries to, at most
	next := module.Addr(PageSize)
	for _, c := range b.Changes {
		short := b.shortBranches(c.New)
		for i, r := range c.New.Ranges {
			room := b.withIslands(c.New, r, short[i])
			next += (room.Start - next) % align
			b.code = append(b.code, movedCode{r, next + r.Start - room.Start})
			next += module.Addr(room.Len())
		}
	}
	b.codeEnd = next
	b.annex.base[ReadExec] = (next + 15) &^ 15
	slices.SortFunc(b.code, func(x, y movedCode) int { return int(int64(x.from.Start) - int64(y.from.Start)) })
}

// at is where the overlay has the included code that the fixed build has at a.
func (b *builder) at(a module.Addr) module.Addr {
	i, ok := slices.BinarySearchFunc(b.code, a, func(m movedCode, a module.Addr) int { return int(int64(m.from.Start) - int64(a)) })
	if !ok {
		i--
	}
	if i < 0 || !b.code[i].from.Contains(a) {
		b.refuse(diff.Undecodable, b.New.Name, "a reference leads to %v, which is not among the code that comes along", a)
		return 0
	}
	return b.code[i].to + (a - b.code[i].from.Start)
}

// code is the overlay address of included code, as a place.
func (b *builder) codeAt(a module.Addr) annexAt { return annexAt{prot: inCode, off: uint64(b.at(a))} }

// function includes one changed or added function.
func (b *builder) function(c diff.Change) {
	f := c.New
	info := Function{Name: f.Name, Change: Added, Why: c.Why, Fixed: f.Ranges}
	for _, r := range f.Ranges {
		at := b.at(r.Start)
		info.Ranges = append(info.Ranges, module.Range{Start: at, End: at + module.Addr(r.Len())})
	}
	if c.Old != nil {
		info.Change, info.Old = Changed, c.Old.Entry()
		b.steer(c)
		info.Steered = true
	}
	b.out.Functions = append(b.out.Functions, info)
	for _, t := range f.Tables {
		b.tables[t.Addr] = b.annex.reserve(ReadOnly, uint64(4*len(t.Targets)), 4, 0)
	}
	b.labelTables(f)
	targets := make([]target, len(f.Refs))
	for i := range f.Refs {
		r := &f.Refs[i]
		targets[i] = b.resolve(f, r)
		if r.Absolute {
			b.around(f, r, targets[i])
			b.puts = append(b.puts, put{at: b.codeAt(r.At + module.Addr(r.FieldOff)), to: targets[i], absolute: r.FieldLen})
			continue
		}
		b.branch(r.At, r.Target, r.FieldOff, r.FieldLen, r.InstLen, targets[i])
	}
	b.checkEnds(f, targets)
	b.acrossParts(f)
	for _, t := range f.Tables {
		b.jumpTable(f, t)
	}
	for _, fde := range f.FDEs {
		b.frame(f, fde)
	}
}

func (b *builder) codeEndOf(at module.Addr, n uint8) annexAt {
	return annexAt{prot: inCode, off: uint64(b.at(at)) + uint64(n)}
}

// acrossParts points the branches from one part of a function to another to
// its new place, and makes sure that no part runs on into what follows it.
func (b *builder) acrossParts(f *module.Func) {
	var last *module.Instr
	body := b.New.Body(f)
	for i := range body {
		in := &body[i]
		from := f.PlaceOf(in.At)
		if last != nil && from.Part != f.PlaceOf(last.At).Part {
			b.endsPart(f, last)
		}
		last = in
		if in.Ref >= 0 && !f.Refs[in.Ref].Absolute || !in.Relative() {
			continue
		}
		t := module.Addr(in.Target(uint64(in.At)))
		if to := f.PlaceOf(t); to.Part == from.Part {
			continue
		}
		b.branch(in.At, t, in.DispOff, in.DispLen, in.Len, target{where: inOverlay, addr: t})
	}
	if last != nil {
		b.endsPart(f, last)
	}
}

// endsPart refuses code that runs on behind its end. A call may be the last
// instruction: of a function that does not return.
func (b *builder) endsPart(f *module.Func, in *module.Instr) {
	switch in.Kind {
	case x86.Jmp, x86.JmpInd, x86.Ret, x86.Trap, x86.Call, x86.CallInd, x86.Int3:
	default:
		b.refuse(diff.Undecodable, f.Name, "runs on behind its end at %v", in.At)
	}
}

// jumpTable writes a table of offsets anew, for its own new place and the code's.
func (b *builder) jumpTable(f *module.Func, t module.JumpTable) {
	table := b.tables[t.Addr]
	for i, index := range t.Targets {
		at := table
		at.off += uint64(4 * i)
		to := target{where: inOverlay, addr: b.New.Entry(t, i)}
		if index == module.Nowhere {
			to = b.resolveCode(f, to.addr, false)
		}
		b.puts = append(b.puts, put{at: at, end: table, to: to})
	}
}

// labelTables copies the tables of pointers to the labels of a function: the
// copies lead to where the labels lie now, and adjacent ones stay adjacent.
func (b *builder) labelTables(f *module.Func) {
	for _, r := range b.LabelTables(f) {
		at := b.annex.reserve(ReadOnly, r.Len(), 8, 0)
		b.tables[r.Start] = at
		for _, rel := range b.New.RelocsIn(r) {
			to, _ := rel.Leads()
			slot := annexAt{at.prot, at.off + uint64(rel.Addr-r.Start)}
			b.annex.links = append(b.annex.links, link{at: slot, to: target{where: inOverlay, addr: to}, imp: -1})
		}
	}
}

// steer redirects every entry of a changed function.
func (b *builder) steer(c diff.Change) {
	if len(c.Old.Entries) != len(c.New.Entries) {
		b.refuse(diff.UnpairedFunction, c.New.Name, "%d entries become %d", len(c.Old.Entries), len(c.New.Entries))
		return
	}
	for i, e := range c.Old.Entries {
		at, old, err := diff.Entry(b.Old, c.Old, e)
		if err != nil {
			b.refuse(diff.NoEntryRoom, c.New.Name, "%v", err)
			continue
		}
		b.out.Steers = append(b.out.Steers, Steer{Name: c.New.Name, At: at, To: b.at(c.New.Entries[i]), Old: old})
	}
}

// old lists the baseline's functions that may not be running when all is exchanged at once.
func (b *builder) old() {
	alive := b.alive()
	add := func(f *module.Func, steered bool) {
		h := sha256.New()
		for _, r := range f.Ranges {
			h.Write(b.Old.Bytes(r))
		}
		b.out.Old = append(b.out.Old, OldFunc{Name: f.Name, Ranges: f.Ranges, Digest: Digest(h.Sum(nil)), Dead: steered && !alive[f]})
	}
	for _, c := range b.Changes {
		if c.Old != nil {
			add(c.Old, true)
		}
	}
	for _, f := range b.Removed {
		add(f, false)
	}
	switch n := len(b.out.Steers); {
	case n == 1 && b.restarts():
		b.out.EntryWhy = "a loop of the old function leads to its entry: an old frame would go on in new code"
	case n == 1 && b.enteredOnce():
		b.out.EntryWhy = "the function is not entered again: the frame that is in it would go on in old code for ever"
	case slices.ContainsFunc(b.Changes, func(c diff.Change) bool { return c.Locks }):
		b.out.EntryWhy = "locks are taken otherwise: old and new code must not run at the same time"
	case n == 1:
		b.out.EntryAllowed, b.out.EntryWhy = true, "one function is steered: old frames end in old code, new calls run new code"
	default:
		b.out.EntryWhy = fmt.Sprintf("%d functions are steered and may rely on each other: none may be running", n)
	}
}

// alive are the baseline's functions that something outside the changed ones
// leads into otherwise than by an entry.
func (b *builder) alive() map[*module.Func]bool {
	changed := make(map[*module.Func]bool)
	for _, c := range b.Changes {
		if c.Old != nil {
			changed[c.Old] = true
		}
	}
	out := make(map[*module.Func]bool)
	into := func(a module.Addr) {
		if f := b.Old.FuncAt(a); f != nil && changed[f] && !slices.Contains(f.Entries, a) {
			out[f] = true
		}
	}
	for _, f := range slices.Concat(b.Old.Funcs, b.Old.Gaps) {
		if changed[f] {
			continue
		}
		for i := range f.Refs {
			into(f.Refs[i].Target)
		}
	}
	for _, r := range b.Old.Relocs {
		if to, ok := r.Leads(); ok {
			into(to)
		}
	}
	return out
}

// enteredOnce reports whether the function that is steered is the program's
// main, whose address the code at its start takes, or never returns.
func (b *builder) enteredOnce() bool {
	start := b.Old.FuncAt(b.Old.Start)
	for _, c := range b.Changes {
		if c.Old == nil {
			continue
		}
		leaves := func(r module.Ref) bool { return r.Kind == module.RefJump } // a tail call
		ends := func(in module.Instr) bool { return in.Kind == x86.Ret || in.Kind == x86.JmpInd }
		if !slices.ContainsFunc(c.Old.Refs, leaves) && !slices.ContainsFunc(b.Old.Body(c.Old), ends) {
			return true
		}
		main := func(r module.Ref) bool { return r.Target == c.Old.Entry() }
		if b.Old.Start != 0 && start != nil && slices.ContainsFunc(start.Refs, main) {
			return true
		}
	}
	return false
}

// restarts reports whether a function branches to its own steered entry.
func (b *builder) restarts() bool {
	at := b.out.Steers[0].At
	for _, c := range b.Changes {
		if c.Old == nil {
			continue
		}
		for _, in := range b.Old.Body(c.Old) {
			to := module.Addr(in.Target(uint64(in.At)))
			if (in.Kind == x86.Jmp || in.Kind == x86.Jcc) && c.Old.Entry() <= to && to <= at {
				return true
			}
		}
	}
	return false
}

// link lays out everything, fills the pieces and writes every field.
func (b *builder) link() {
	b.placeBlobs()
	b.layAnnex()
	for _, m := range b.code {
		copy(b.out.field(m.to, int(m.from.Len())), b.New.Bytes(m.from))
	}
	b.fillIslands()
	for _, p := range b.puts {
		at, end, to := b.annex.address(p.at), b.annex.address(p.end), b.address(p.to)
		if p.absolute != 0 {
			b.putAddress(&p, at, to)
			continue
		}
		if p.to.where == inBaseline {
			b.out.Fixups = append(b.out.Fixups, Fixup{At: at, Kind: RelBaseline, Target: to})
		}
		if p.to.held {
			b.out.Fixups = append(b.out.Fixups, Fixup{At: at, Kind: RelOverlay, Target: to})
		}
		d := int64(to) - int64(end)
		field := b.out.field(at, 4)
		if field == nil || int64(int32(d)) != d {
			b.refuse(diff.UnsupportedModule, b.New.Name, "a reference at %v spans more than 2 GiB", at)
			continue
		}
		binary.LittleEndian.PutUint32(field, uint32(d))
	}
	slices.SortFunc(b.out.Fixups, func(x, y Fixup) int { return int(int64(x.At) - int64(y.At)) })
}

// address is the overlay address of a target, or the baseline image address of
// one that lies there.
func (b *builder) address(t target) module.Addr {
	switch t.where {
	case inOverlay:
		return b.at(t.addr)
	case inAnnex:
		return b.annex.address(t.annex)
	case inBlob:
		return b.annex.address(b.blobAt(t.addr))
	}
	return t.addr
}

// putAddress writes a field that holds an address.
func (b *builder) putAddress(p *put, at, to module.Addr) {
	f := Fixup{At: at, Kind: NarrowOverlay, Target: to}
	switch baseline := p.to.where == inBaseline; {
	case p.absolute == 8 && baseline:
		f.Kind = AbsBaseline
	case p.absolute == 8:
		f.Kind = AbsOverlay
	case baseline:
		f.Kind = NarrowBaseline
	}
	field := b.out.field(at, int(p.absolute))
	if field == nil || p.absolute == 4 && to > math.MaxInt32 {
		b.refuse(diff.UnsupportedModule, b.New.Name, "an address at %v needs more than 31 bits", at)
		return
	}
	for i := range field {
		field[i] = byte(to >> (8 * i))
	}
	b.out.Fixups = append(b.out.Fixups, f)
}

// field is the n bytes of the overlay at a, or nil.
func (p *Patch) field(a module.Addr, n int) []byte {
	for i := range p.Pieces {
		s := &p.Pieces[i]
		if s.Addr <= a && n <= len(s.Bytes) && a-s.Addr <= module.Addr(len(s.Bytes)-n) {
			return s.Bytes[a-s.Addr:][:n]
		}
	}
	return nil
}
