package patch

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/module/cfi"
)

// Build makes the patch that a comparison allows. It returns reasons instead
// of a patch when something that the fixed code refers to has no certain place
// in a process that runs the baseline.
func Build(r *diff.Result, tool string) (*Patch, []diff.Reason, error) {
	if r.Verdict != diff.Patchable {
		return nil, r.Reasons, nil
	}
	b := newBuilder(r, tool)
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
	if _, err := b.out.Encode(); err != nil { // sets the ID
		return nil, nil, err
	}
	return b.out, nil, nil
}

// builder gathers the overlay. Places in the annex are known only once all
// references are, so fields that lead there are kept until link.
type builder struct {
	*diff.Result
	out      *Patch
	reasons  []diff.Reason
	included map[*module.Func]bool
	code     []module.Range // of included functions
	consts   []module.Range // read-only data that comes along
	puts     []put
	annex    annex
	slots    map[string]annexAt // new GOT slots, by SlotKey
	stubs    map[string]annexAt
	fresh    map[module.Addr]annexAt // stretches of new variables, by start
	copies   map[module.Range]annexAt
	oldSlots map[string]module.Addr // the baseline's slots and stubs, by SlotKey
	oldStubs map[string]module.Addr
	oldText  map[string]module.Addr
	frames   []cfi.Frame
}

// put is a 32-bit field relative to end, which is to lead to the target.
type put struct {
	at, end module.Addr
	to      target
}

// target is where a field has to lead.
type target struct {
	where whereabouts
	addr  module.Addr // fixed image address (inOverlay), baseline image address (inBaseline)
	annex annexAt     // inAnnex
}

type whereabouts uint8

const (
	nowhere whereabouts = iota // refused
	inOverlay
	inBaseline
	inAnnex
)

func newBuilder(r *diff.Result, tool string) *builder {
	b := &builder{
		Result: r, included: make(map[*module.Func]bool),
		slots: make(map[string]annexAt), stubs: make(map[string]annexAt), fresh: make(map[module.Addr]annexAt),
		copies:   make(map[module.Range]annexAt),
		oldSlots: make(map[string]module.Addr), oldStubs: make(map[string]module.Addr),
		out: &Patch{
			Module: r.New.Name, Baseline: r.Old.Identity, Fixed: r.New.Identity, Tool: tool, Pairs: r.DataPairs(),
		},
	}
	for _, c := range r.Changes {
		b.included[c.New] = true
	}
	for _, rel := range r.Old.Relocs {
		if k, local, ok := diff.SlotKey(r.Old, rel.Addr); ok && local == 0 && b.oldSlots[k] == 0 {
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

// function includes one changed or added function.
func (b *builder) function(c diff.Change) {
	f := c.New
	info := Function{Name: f.Name, Change: Added, Why: c.Why, Ranges: f.Ranges}
	if c.Old != nil {
		info.Change, info.Old = Changed, c.Old.Entry()
		b.steer(c)
		info.Steered = true
	}
	b.out.Functions = append(b.out.Functions, info)
	b.code = append(b.code, f.Ranges...)
	for i := range f.Refs {
		r := &f.Refs[i]
		t := b.resolve(f, r)
		end := r.At + module.Addr(r.InstLen)
		b.puts = append(b.puts, put{r.At + module.Addr(r.FieldOff), end, t})
	}
	for _, t := range f.Tables {
		b.consts = append(b.consts, module.Range{Start: t.Addr, End: t.Addr + module.Addr(4*len(t.Targets))})
	}
	for _, fde := range f.FDEs {
		b.frame(f, fde)
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
		b.out.Steers = append(b.out.Steers, Steer{Name: c.New.Name, At: at, To: c.New.Entries[i], Old: old})
	}
}

// old lists the baseline's functions that may not be running when all is exchanged at once.
func (b *builder) old() {
	add := func(f *module.Func) {
		h := sha256.New()
		for _, r := range f.Ranges {
			h.Write(b.Old.Bytes(r))
		}
		b.out.Old = append(b.out.Old, OldFunc{Name: f.Name, Ranges: f.Ranges, Digest: Digest(h.Sum(nil))})
	}
	for _, c := range b.Changes {
		if c.Old != nil {
			add(c.Old)
		}
	}
	for _, f := range b.Removed {
		add(f)
	}
	switch n := len(b.out.Steers); {
	case n == 1:
		b.out.EntryAllowed, b.out.EntryWhy = true, "one function is steered: old frames end in old code, new calls run new code"
	default:
		b.out.EntryWhy = fmt.Sprintf("%d functions are steered and may rely on each other: none may be running", n)
	}
}

// link lays out the annex, fills the pieces and writes every field.
func (b *builder) link() {
	b.layAnnex()
	b.out.Pieces = append(layPages(b.New, b.code, b.consts), b.out.Pieces...)
	for _, p := range b.puts {
		to := p.to.addr
		switch p.to.where {
		case inAnnex:
			to = b.annex.address(p.to.annex)
		case inBaseline:
			b.out.Fixups = append(b.out.Fixups, Fixup{At: p.at, Kind: RelBaseline, Target: to})
		}
		d := int64(to) - int64(p.end)
		field := b.out.field(p.at, 4)
		if field == nil || int64(int32(d)) != d {
			b.refuse(diff.UnsupportedModule, b.New.Name, "a reference at %v spans more than 2 GiB", p.at)
			continue
		}
		binary.LittleEndian.PutUint32(field, uint32(d))
	}
	slices.SortFunc(b.out.Fixups, func(x, y Fixup) int { return int(int64(x.At) - int64(y.At)) })
}

// field is the n bytes of the overlay at a, or nil.
func (p *Patch) field(a module.Addr, n int) []byte {
	for i := range p.Pieces {
		s := &p.Pieces[i]
		if s.Addr <= a && a+module.Addr(n) <= s.Addr+module.Addr(len(s.Bytes)) {
			return s.Bytes[a-s.Addr:][:n]
		}
	}
	return nil
}
