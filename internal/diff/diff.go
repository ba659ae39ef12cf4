// Package diff compares two builds of a module: it pairs their functions and
// data, decides which functions the fixed build really changed, and judges
// whether a process that runs the baseline can be taken to the fixed build
// without a restart. What it cannot prove it refuses, with a typed reason.
package diff

import (
	"fmt"
	"slices"

	"hotpatch/internal/debuginfo"
	"hotpatch/internal/module"
)

// Verdict is the outcome of a comparison.
type Verdict string

// The verdicts.
const (
	Patchable Verdict = "patchable"
	Unchanged Verdict = "unchanged" // nothing to patch: no code that runs differs
	Refused   Verdict = "refused"
)

// Code is the type of a reason to refuse. docs/verdicts.md explains each.
type Code string

// The reasons to refuse.
const (
	NotPositionIndependent Code = "not-position-independent"
	NoEntryRoom            Code = "entry-too-short"
	JumpIntoEntry          Code = "jump-into-entry"
	RemovedExport          Code = "removed-export"
	DataLayout             Code = "data-layout"
	InitialValue           Code = "initial-value-changed"
	ConstantData           Code = "constant-data-changed"
	TLSLayout              Code = "tls-layout"
	Constructor            Code = "constructor-changed"
	LiveValue              Code = "live-value-changed"
	Signature              Code = "signature-changed"
	LockProtocol           Code = "lock-protocol"
	ConflictingPairs       Code = "conflicting-pairing"
	UnpairedData           Code = "unpaired-data"
	UnpairedFunction       Code = "unpaired-function"
	OutsideFDE             Code = "code-outside-fde"
	Undecodable            Code = "undecodable-code"
	IndirectJump           Code = "unresolved-indirect-jump"
	Labels                 Code = "label-table"
	ShortBranch            Code = "short-branch"
	Churn                  Code = "different-compiler-or-profile"
	UnresolvedImport       Code = "unresolved-import"
	UnsupportedModule      Code = "unsupported-module"
)

// A Reason says why a module is refused and what it is about.
type Reason struct {
	Code   Code   `json:"code"`
	Name   string `json:"name"`   // the function, object or section
	Detail string `json:"detail"` // for people
}

func (r Reason) String() string { return fmt.Sprintf("%s: %s: %s", r.Code, r.Name, r.Detail) }

// An Omission is a difference left out because it cannot matter.
type Omission struct {
	Func           *module.Func // in the fixed build
	Reason, Detail string
}

// A Remark is something to know of a patch that is safe.
type Remark struct {
	Kind   RemarkKind `json:"kind"`
	Name   string     `json:"name"`   // the function or type
	Detail string     `json:"detail"` // for people
}

// RemarkKind is the kind of a remark.
type RemarkKind string

// NoEffect: no effect on objects that exist already. They stay as vulnerable
// as they were until they are made anew.
const NoEffect RemarkKind = "no-effect-on-existing-objects"

// A Change is one function of the fixed build that differs.
type Change struct {
	Old *module.Func // nil: added
	New *module.Func
	Why string
	// Locks says that it takes or gives back other locks, or in another order,
	// so that old and new code must not run at the same time.
	Locks bool
}

// Result is what a comparison found.
type Result struct {
	Old, New  *module.Module
	Verdict   Verdict
	Reasons   []Reason
	Changes   []Change // by address in the fixed build
	Removed   []*module.Func
	Omissions []Omission
	Remarks   []Remark
	// Typed says that types were compared by debug information.
	Typed  bool
	Paired int // functions with a counterpart

	*pairing
}

// pairing is who is who in the two builds.
type pairing struct {
	toNew, toOld map[*module.Func]*module.Func
	data         dataPairs
	ro           map[module.Addr]module.Addr   // read-only data, fixed -> baseline
	labels       map[*module.Func]owned        // tables of labels
	shifted      map[module.Addr][]module.Addr // read-only data at the same place of paired code, baseline -> fixed
}

// OldData is where the baseline keeps the writable byte that the fixed build keeps at a.
func (p *pairing) OldData(a module.Addr) (module.Addr, bool) { return p.data.Old(a) }

// Counterparts are where the fixed build has the data that the baseline has at
// o, whatever its content.
func (r *Result) Counterparts(o module.Addr) []module.Addr {
	if n, ok := r.data.toNew[o]; ok {
		return []module.Addr{n}
	}
	return r.shifted[o]
}

// OldConstant is the baseline's read-only object with the content of the one at a.
func (p *pairing) OldConstant(a module.Addr) (module.Addr, bool) {
	o, ok := p.ro[a]
	return o, ok
}

// DataPairs are the paired addresses of writable data, baseline first, by baseline address.
func (p *pairing) DataPairs() [][2]module.Addr {
	out := make([][2]module.Addr, 0, len(p.data.toNew))
	for o, n := range p.data.toNew {
		out = append(out, [2]module.Addr{o, n})
	}
	slices.SortFunc(out, func(a, b [2]module.Addr) int { return int(int64(a[0]) - int64(b[0])) })
	return out
}

// OldOf is the baseline's counterpart of a function of the fixed build, or nil.
func (p *pairing) OldOf(f *module.Func) *module.Func { return p.toOld[f] }

type comparer struct {
	*Result
	votes    *ballot
	changed  map[*module.Func]string // fixed functions, with the reason
	moved    map[module.Addr]bool    // read-only objects of the fixed build that may reach into changed data
	bodies   map[*module.Func][]module.Instr
	calledBy map[module.Addr][]*module.Func
	kin      map[[16]byte]int // how many functions have a body
	usedBy   map[module.Addr]int
	inside   map[*module.Func][]module.Addr // see pointersInto
	lines    map[*module.Func]bool
	targets  []module.Addr // see codeTargets
	growths  []growth
	flows    map[*module.Func]*flow
	written  map[int64]map[[2]int64]string // offsets: numbers that are stored there, and what they become
	writer   map[int64]*module.Func        // the last of the functions that do
	asked    map[int64]map[[2]int64]module.Addr
	given    map[[2]int64][]*module.Func // numbers that became others: given to calls,
	bounds   map[[2]int64][]*module.Func // and compared with or computed with
	setNow   map[flag][]*module.Func     // bits of objects that only the fixed build of functions sets,
	askedNow map[flag][]asking           // and asks for
	compared map[held]module.Addr        // with which numbers only the fixed build compares
	states   map[spot][]renumbering
	atStart  map[*module.Func]bool
	pointers map[module.Addr]bool // see samePointers
	types    Types
}

// Types finds the debug information of two builds; it is asked only when code
// differs. An error means that one of them has none that can be read.
type Types func() (old, new *debuginfo.Info, err error)

// Compare pairs two builds of one module and judges the difference by the code
// alone. An error means that they could not be compared at all.
func Compare(old, new *module.Module) (*Result, error) { return CompareTypes(old, new, nil) }

// CompareTypes is Compare with debug information, where there is any for both.
func CompareTypes(old, new *module.Module, types Types) (*Result, error) {
	r := &Result{Old: old, New: new, Verdict: Unchanged, pairing: &pairing{
		toNew: make(map[*module.Func]*module.Func, len(old.Funcs)),
		toOld: make(map[*module.Func]*module.Func, len(new.Funcs)),
		ro:    make(map[module.Addr]module.Addr), labels: make(map[*module.Func]owned),
	}}
	if old.Identity == new.Identity {
		return r, nil
	}
	c := &comparer{
		Result: r, votes: newBallot(), changed: make(map[*module.Func]string), moved: make(map[module.Addr]bool),
		bodies: make(map[*module.Func][]module.Instr), flows: make(map[*module.Func]*flow),
		written: make(map[int64]map[[2]int64]string), asked: make(map[int64]map[[2]int64]module.Addr), writer: make(map[int64]*module.Func),
		setNow: make(map[flag][]*module.Func), askedNow: make(map[flag][]asking),
		compared: make(map[held]module.Addr), states: make(map[spot][]renumbering), given: make(map[[2]int64][]*module.Func), bounds: make(map[[2]int64][]*module.Func),
	}
	c.votes.copies = [2][]copied{copies(old), copies(new)}
	c.pairFuncs()
	c.votes.named = namedSlots(old, new)
	c.settle()
	c.findChanges()
	c.types = types
	c.finish()
	return r, nil
}

func (c *comparer) refuse(code Code, name, format string, args ...any) {
	r := Reason{code, name, fmt.Sprintf(format, args...)}
	if !slices.Contains(c.Reasons, r) {
		c.Reasons = append(c.Reasons, r)
	}
}

func (c *comparer) remark(kind RemarkKind, name, format string, args ...any) {
	r := Remark{kind, name, fmt.Sprintf(format, args...)}
	if !slices.Contains(c.Remarks, r) {
		c.Remarks = append(c.Remarks, r)
	}
}

// settle pairs functions and data in turn until nothing more is found: calls
// of paired functions and slots of paired tables name further pairs.
func (c *comparer) settle() {
	for round := 0; round < 50; round++ {
		c.follow()
		n := len(c.toNew)
		named := c.named()
		c.pairNamed(named)
		c.pairInOrder()
		c.pairSimilar(named)
		c.pairMoved(named)
		if len(c.toNew) == n {
			break
		}
	}
	c.voteByBodies()
}

// follow pairs what references at the same place of paired code name, until
// they name nothing new.
func (c *comparer) follow() {
	for round := 0; round < 50; round++ {
		n := len(c.toNew)
		c.voteByRefs()
		c.resolve()
		c.voteBySlots()
		c.voteByConstants()
		c.elect()
		if len(c.toNew) == n {
			return
		}
	}
}

// finish turns what was found into the verdict.
func (c *comparer) finish() {
	for f, why := range c.changed {
		c.Changes = append(c.Changes, Change{Old: c.toOld[f], New: f, Why: why})
	}
	slices.SortFunc(c.Changes, func(a, b Change) int { return int(int64(a.New.Entry()) - int64(b.New.Entry())) })
	for _, f := range c.Old.Funcs {
		if c.toNew[f] == nil {
			c.Removed = append(c.Removed, f)
		}
	}
	c.Paired = len(c.toNew)
	c.shifted = make(map[module.Addr][]module.Addr)
	for p := range c.votes.constants {
		c.shifted[p[0]] = append(c.shifted[p[0]], p[1])
		if _, ok := c.ro[p[1]]; !ok && !c.moved[p[1]] && c.constant(p[0], p[1], module.RefAddress, 0) == same {
			c.ro[p[1]] = p[0]
		}
	}
	c.judge()
	switch {
	case len(c.Reasons) > 0:
		c.Verdict = Refused
	case len(c.Changes) > 0:
		c.Verdict = Patchable
	}
	for i, o := range c.Omissions {
		if _, ok := c.changed[o.Func]; ok {
			c.Omissions[i].Func = nil
		}
	}
	c.Omissions = slices.DeleteFunc(c.Omissions, func(o Omission) bool { return o.Func == nil })
}
