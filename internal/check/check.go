// Package check proves a patch by a second way. It links the overlay beside
// the baseline, follows every reference of every function in it, and holds
// each against the same reference of the fixed build. It shares only the
// decoder with what builds patches: functions, data and their counterparts are
// read and paired here anew, and what the patch says of them is no evidence.
// What it cannot prove it lists; it never takes it on trust.
package check

import (
	"cmp"
	"fmt"
	"slices"

	"hotpatch/internal/patch"
)

// Code is the type of a fault.
type Code string

// The faults.
const (
	Identity    Code = "identity"        // the files are not the builds that the patch names
	Layout      Code = "layout"          // pieces overlap, or one is writable and executable
	Bytes       Code = "code-bytes"      // code is not the fixed build's
	Branch      Code = "branch"          // a branch, call or code address leads elsewhere
	Import      Code = "import"          // another symbol, or none
	Variable    Code = "variable"        // another variable, or a second copy of one
	Constant    Code = "constant"        // read-only data with other content
	JumpTable   Code = "jump-table"      // an entry leads elsewhere
	Unwind      Code = "unwind"          // call-frame information is not the fixed build's
	Exceptions  Code = "exception-table" // an exception table is not the fixed build's
	Steer       Code = "steer"           // a function is not led to its copy
	OldBytes    Code = "old-bytes"       // what a steer replaces is not in the baseline
	LeftOut     Code = "left-out"        // a function differs and does not come along
	Padding     Code = "padding"         // executable bytes that are no code of the patch
	Fixup       Code = "fixup"           // a fixup that belongs to no reference
	Export      Code = "export"          // a new export is missing or leads elsewhere
	ThreadLocal Code = "thread-local"    // thread-local storage differs
	Flags       Code = "flags"           // what the patch says of itself is not so
)

// A Fault is something that is wrong, or that could not be proved.
type Fault struct {
	Code   Code
	Func   string // the function or object that it is about
	At     uint64 // where: an address of the fixed build, or of the overlay or baseline as Detail says
	Detail string
}

func (f Fault) String() string {
	return fmt.Sprintf("%s: %s at %#x: %s", f.Code, f.Func, f.At, f.Detail)
}

// Counts says how much was held against the fixed build.
type Counts struct {
	Functions    int // ranges of code in the overlay
	Instructions int // in them
	References   int // of them, proved
	TableEntries int // of jump tables
	Frames       int // unwind entries
	Types        int // of exception tables
	Steers       int
	Fixups       int
	Compared     int // ranges that stay in the baseline and were shown to be equal
	Omitted      int // that differ in version texts or line numbers alone, as the patch says
	Pairs        int // of variables, shown to be right
}

// A Report is the outcome of a proof.
type Report struct {
	Proved   Counts
	Faults   []Fault
	Unproved []Fault // nothing speaks against these, but nothing independent for them
}

// Patch proves a patch that is to take the baseline old to the fixed build,
// both given as ELF files. An error means that it could not even begin.
func Patch(p *patch.Patch, old, fixed []byte) (*Report, error) {
	o, err := readImage(old)
	if err != nil {
		return nil, fmt.Errorf("read baseline: %w", err)
	}
	n, err := readImage(fixed)
	if err != nil {
		return nil, fmt.Errorf("read fixed build: %w", err)
	}
	c := &checker{patch: p, old: o, fixed: n, report: &Report{}}
	c.run()
	return c.report, nil
}

// Where the proof puts the two: anything will do within 2 GiB, below 2 GiB for
// programs at a fixed address.
const (
	baseBias    = 0x5555_0000
	overlayBias = baseBias - 0x2bad_f000
)

type checker struct {
	patch      *patch.Patch
	old, fixed *image
	report     *Report
	pieces     []piece           // linked
	links      map[uint64]*link  // 64-bit fields by place in the process
	islands    map[uint64]bool   // places in the process that 8-bit branches lead over
	fields     map[uint64]uint64 // of every reference of the overlay: its place, and where it leads
	code       []moved           // included parts, by fixed address
	in         map[*part]*moved
	pairs      pairing
	data       dataMap
	classes    []map[string]uint64 // of the baseline and the fixed build, see image.classes
	fresh      []freshObject
	asked      map[question]outcome
	seen       map[string]bool
	who        string // the function being looked at
	where      uint64
	copies     []copied
	escapes    [2]bool // addresses of overlay code, and of its data, leave it
	bodies     map[*part][]instruction
}

// moved is an included part and its place in the overlay.
type moved struct {
	part *part
	to   uint64 // overlay address
	fn   int    // index in Patch.Functions
}

func (c *checker) run() {
	c.identity()
	if !c.link() {
		return
	}
	c.included()
	c.pairParts()
	for i := range c.code {
		c.follow(&c.code[i])
	}
	c.unwind()
	c.steers()
	c.exports()
	c.leftOut()
	c.threads()
	c.freshData()
	c.padding()
	c.followCopies()
	c.fixups()
	c.listedPairs()
	c.flags()
	order := func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.At, b.At), cmp.Compare(a.Func, b.Func), cmp.Compare(a.Detail, b.Detail))
	}
	slices.SortFunc(c.report.Faults, order)
	slices.SortFunc(c.report.Unproved, order)
}

// fault notes something wrong with what is being looked at.
func (c *checker) fault(code Code, format string, args ...any) {
	c.note(&c.report.Faults, code, format, args...)
}

// unproved notes something that nothing speaks for or against.
func (c *checker) unproved(code Code, format string, args ...any) {
	c.note(&c.report.Unproved, code, format, args...)
}

func (c *checker) note(list *[]Fault, code Code, format string, args ...any) {
	f := Fault{code, c.who, c.where, fmt.Sprintf(format, args...)}
	if c.seen == nil {
		c.seen = make(map[string]bool)
	}
	if key := fmt.Sprint(list == &c.report.Faults, f); !c.seen[key] {
		c.seen[key] = true
		*list = append(*list, f)
	}
}

// at says what the next faults are about.
func (c *checker) at(who string, where uint64) { c.who, c.where = who, where }

func (c *checker) identity() {
	c.at(c.patch.Module, 0)
	for _, b := range []struct {
		name, id, digest string
		m                *image
	}{
		{"baseline", c.patch.Baseline.BuildID, c.patch.Baseline.Digest, c.old},
		{"fixed build", c.patch.Fixed.BuildID, c.patch.Fixed.Digest, c.fixed},
	} {
		if b.id != b.m.buildID || b.digest != b.m.digest {
			c.fault(Identity, "the %s is %s %s, the patch is for %s %s", b.name, b.m.buildID, b.m.digest, b.id, b.digest)
		}
	}
}

// state is what came of a question.
type state uint8

const (
	proved state = iota
	open
	wrong
)

// outcome is the answer to whether two addresses mean the same.
type outcome struct {
	state  state
	code   Code
	detail string
}

func bad(code Code, format string, args ...any) outcome {
	return outcome{wrong, code, fmt.Sprintf(format, args...)}
}

func unsure(code Code, format string, args ...any) outcome {
	return outcome{open, code, fmt.Sprintf(format, args...)}
}

// settle notes an outcome and reports whether it is a proof.
func (c *checker) settle(o outcome) bool {
	switch o.state {
	case wrong:
		c.fault(o.code, "%s", o.detail)
	case open:
		c.unproved(o.code, "%s", o.detail)
	}
	return o.state == proved
}
