// Package engine puts patches into a live process and takes them out again. A
// transaction covers every module of one update in one process, all or
// nothing. What is in a process is recorded on the host, so that a run that
// was cut off is finished or undone by the next. How to stop threads and to
// reach memory it leaves to process; what is in a patch to patch.
package engine

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// Level is how much is proved of the threads before entries are changed.
type Level string

// The levels of consistency.
const (
	Strict Level = "strict" // no thread has a frame in any changed function
	Entry  Level = "entry"  // old frames may finish in old code; only where the patch allows it
	Auto   Level = "auto"   // strict until the deadline, then entry if the patch allows it
)

// DefaultBudget is how long all threads of a process are held at most, unless
// another time is asked for.
const DefaultBudget = 10 * time.Millisecond

// Options are the limits of a transaction. Zero values mean the defaults.
type Options struct {
	Level    Level         `json:"level,omitempty"`    // default Auto
	Deadline time.Duration `json:"deadline,omitempty"` // for all tries; default 10 s
	Budget   time.Duration `json:"budget,omitempty"`   // of one stop; default DefaultBudget
	MaxStops int           `json:"max_stops,omitempty"`
	Store    string        `json:"store,omitempty"`  // default DefaultStore
	Retire   bool          `json:"retire,omitempty"` // overwrite replaced code where nothing can be in it
	Seal     bool          `json:"seal,omitempty"`   // protect the new code with mseal(2), Linux 6.10
}

func (o Options) withDefaults() Options {
	o.Level = cmp.Or(o.Level, Auto)
	o.Deadline = cmp.Or(o.Deadline, 10*time.Second)
	o.Budget = cmp.Or(o.Budget, DefaultBudget)
	o.MaxStops = cmp.Or(o.MaxStops, 1000)
	o.Store = cmp.Or(o.Store, DefaultStore)
	return o
}

// State is how a transaction ended.
type State string

// The ends of a transaction. Only Failed is an error of ours.
const (
	Patched     State = "patched"
	Already     State = "already" // the patches were there, or (to remove) were not
	Removed     State = "removed"
	Exited      State = "exited"      // the process ended by itself meanwhile
	Blocked     State = "blocked"     // threads were in the way until the deadline; nothing is changed
	Refused     State = "refused"     // it would not be safe; nothing is changed
	Interrupted State = "interrupted" // the command was ended while it waited; nothing is changed
	Failed      State = "failed"      // something went wrong; see the reasons for what is left
	Verified    State = "verified"
	Tampered    State = "tampered" // what is in the process is not what was put there
)

// Reason says why a transaction did not come to its end. It is an error.
type Reason struct {
	Code     Code     `json:"code"`
	Pid      int      `json:"pid,omitempty"`
	Tid      int      `json:"tid,omitempty"`
	Thread   string   `json:"thread,omitempty"`
	Function string   `json:"function,omitempty"`
	Module   string   `json:"module,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Stack    []string `json:"stack,omitempty"` // innermost first
}

// Code is the kind of a reason.
type Code string

// The kinds of reasons.
const (
	NoModule      Code = "no-module"       // no module of the process is the patch's baseline
	EntryChanged  Code = "entry-changed"   // by another: a hook or a breakpoint
	NoGap         Code = "no-gap"          // no address space within reach of the module
	NoMemory      Code = "no-memory"       // left in its memory cgroup
	Overflow      Code = "overflow"        // a field cannot hold the distance
	NoImport      Code = "no-import"       // a symbol is not in the process
	UnboundIfunc  Code = "unbound-ifunc"   // nobody has resolved it yet
	TracedAlready Code = "already-traced"  // by a debugger or another tool
	StackSwitch   Code = "stack-switching" // strict cannot be proved with coroutines
	ThreadInside  Code = "thread-inside"   // a frame in a function to be changed
	MaybeInside   Code = "maybe-inside"    // a word on a stack that cannot be unwound
	ThreadBusy    Code = "thread-busy"     // does not stop
	NoThread      Code = "no-thread"       // none can make system calls for us
	NoUnwind      Code = "no-unwinding"    // exceptions would end in new code
	SharedMemory  Code = "shared-memory"   // with another process, which cannot be held
	MainEnded     Code = "main-thread-ended"
	TooLarge      Code = "too-large"         // more modules, mappings or tables than are looked at
	Locked        Code = "locked"            // another transaction on this process is under way
	Conflict      Code = "conflict"          // with a patch that is in the process
	BadPatch      Code = "bad-patch"         // contradicts itself
	Kernel        Code = "kernel"            // forbids something
	LevelRefused  Code = "level-not-allowed" // entry, where it is not safe
	NotRetired    Code = "not-retired"       // asked for, and the patch is in force without
	NotSealed     Code = "not-sealed"        // the same
	NotStrict     Code = "not-strict"        // the same
	Differs       Code = "differs"           // a byte is not what it should be
	Cancelled     Code = "interrupted"       // by whoever started it
	DamagedRecord Code = "damaged-record"    // it was set aside
	Gone          Code = "exited"
	Internal      Code = "failed"
)

func (r *Reason) Error() string {
	s := string(r.Code)
	for _, f := range []struct{ k, v string }{
		{"thread ", r.Thread}, {"function ", r.Function}, {"module ", r.Module}, {"", r.Detail},
	} {
		if f.v != "" {
			s += ": " + f.k + f.v
		}
	}
	return s
}

// Result is what became of one process.
type Result struct {
	process.ID
	// Sharing are all processes with the same memory, where there are others:
	// the result is that of each.
	Sharing   []process.ID `json:"sharing,omitempty"`
	Program   Name         `json:"program,omitempty"` // its path
	State     State        `json:"state"`
	Patches   []patch.ID   `json:"patches,omitempty"`   // that came or went, or were to
	Functions int          `json:"functions,omitempty"` // steered
	Level     Level        `json:"level,omitempty"`     // that was reached
	// Pause is from before the first interrupt to after the last resume of
	// the stop that changed the entries, microseconds; Prepare the longest
	// time that one thread was borrowed before. Check is the part of Pause in
	// which the stacks were looked at.
	Check    int64  `json:"check_us"`
	Pause    int64  `json:"pause_us"`
	Prepare  int64  `json:"prepare_us"`
	Tries    int    `json:"tries"`
	Verified bool   `json:"verified"`
	Unwind   string `json:"unwind,omitempty"` // how exceptions cross new code: "dl_find_object" or "none"
	Left     int64  `json:"left,omitempty"`   // bytes of address space that stay after a removal
	// Restored are the earlier patches that came back with a removal.
	Restored []patch.ID `json:"restored,omitempty"`
	Retired  bool       `json:"retired,omitempty"` // the replaced code is gone from memory
	Sealed   bool       `json:"sealed,omitempty"`  // the new code stays mapped until the process ends
	Reasons  []Reason   `json:"reasons,omitempty"`
}

// fail fills the result from an error.
func (r *Result) fail(err error) {
	r.State = Failed
	var reason *Reason
	var many reasons
	var traced *process.TracedError
	var shared *process.SharedError
	var busy *process.BusyError
	switch {
	case errors.As(err, &many):
		r.State, r.Reasons = Blocked, many
		return
	case errors.As(err, &reason):
	case errors.Is(err, process.ErrExited):
		reason = &Reason{Code: Gone, Detail: err.Error()}
	case errors.Is(err, process.ErrMainEnded):
		reason = &Reason{Code: MainEnded, Detail: err.Error()}
	case errors.Is(err, process.ErrTooLarge):
		reason = &Reason{Code: TooLarge, Detail: err.Error()}
	case errors.As(err, &shared):
		reason = &Reason{Code: SharedMemory, Pid: shared.Other, Detail: err.Error()}
	case errors.As(err, &traced):
		reason = &Reason{Code: TracedAlready, Pid: traced.Pid, Detail: err.Error()} // the tracer is no thread of the process
	case errors.As(err, &busy):
		reason = &Reason{Code: ThreadBusy, Pid: busy.Pid, Tid: busy.Tid, Thread: busy.Name, Detail: err.Error()}
	default:
		reason = &Reason{Code: Internal, Detail: strings.ReplaceAll(err.Error(), "\n", "; ")} // errors that are joined
	}
	switch reason.Code {
	case Gone:
		r.State = Exited
	case ThreadBusy, NoThread, ThreadInside, MaybeInside:
		r.State = Blocked
	case Cancelled:
		r.State = Interrupted
	case Internal:
	case Differs:
		r.State = Tampered
	default:
		r.State = Refused
	}
	one := *reason
	one.Pid = cmp.Or(one.Pid, r.Pid)
	r.Reasons = append(r.Reasons, one)
}

// reasons are the blockers at the deadline.
type reasons []Reason

func (r reasons) Error() string { return fmt.Sprintf("%d threads are in the way", len(r)) }
