package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"hotpatch/internal/diff"
	"hotpatch/internal/doctor"
	"hotpatch/internal/engine"
	"hotpatch/internal/host"
	"hotpatch/internal/plan"
	"hotpatch/internal/process"
)

// schema is the version of the JSON that every command prints; docs/json.md
// describes it. It only grows.
const schema = "hotpatch/1"

// report is the one JSON object of a command.
type report struct {
	Schema    string          `json:"schema"`
	Command   string          `json:"command"`
	Processes []processReport `json:"processes,omitzero"`
	Modules   []moduleReport  `json:"modules,omitempty"`
	Patch     *patchReport    `json:"patch,omitempty"`
	Checks    []doctor.Check  `json:"checks,omitempty"`
	Error     string          `json:"error,omitempty"` // of no process or module; then there is nothing else
}

type processReport struct {
	PID      int            `json:"pid"`
	Start    uint64         `json:"start,omitempty"` // clock ticks since boot
	Program  string         `json:"program,omitempty"`
	State    string         `json:"state"`
	Sharing  []int          `json:"sharing,omitempty"` // the other processes with the same memory
	Modules  []moduleReport `json:"modules,omitempty"`
	Level    string         `json:"level,omitempty"`
	PauseUS  int64          `json:"pause_us,omitempty"`
	CheckUS  int64          `json:"check_us,omitempty"`  // of PauseUS, the look at the stacks
	BorrowUS int64          `json:"borrow_us,omitempty"` // longest time one thread was held for preparation
	Stops    int            `json:"stops,omitempty"`
	Verified bool           `json:"verified,omitempty"`
	Unwind   string         `json:"unwind,omitempty"`
	Left     int64          `json:"left_bytes,omitempty"` // address space that a removal left mapped
	Restored []string       `json:"restored,omitempty"`   // earlier patches that came back
	Retired  bool           `json:"retired,omitempty"`
	Sealed   bool           `json:"sealed,omitempty"`
	Reasons  []reason       `json:"reasons,omitempty"`
}

type moduleReport struct {
	Module    string     `json:"module"`
	State     string     `json:"state,omitempty"`
	Verdict   string     `json:"verdict,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Patch     string     `json:"patch,omitempty"`
	Replaced  []string   `json:"replaced,omitempty"` // the patches before it in the process
	Retired   bool       `json:"retired,omitempty"`
	Sealed    bool       `json:"sealed,omitempty"`
	File      string     `json:"file,omitempty"`
	Functions *functions `json:"functions,omitempty"`
	Running   *build     `json:"running,omitempty"`
	Disk      *build     `json:"disk,omitempty"`
	Omitted   []omission `json:"omitted,omitempty"`
	Remarks   []remark   `json:"remarks,omitempty"`
	Typed     bool       `json:"types_compared,omitempty"`
	Reasons   []reason   `json:"reasons,omitempty"`
	Seconds   float64    `json:"seconds,omitempty"`
	// Where it lies in the process: address minus image address, bytes.
	Bias        uint64 `json:"bias,omitempty"`
	OverlayBias uint64 `json:"overlay_bias,omitempty"`
}

type functions struct {
	Changed int `json:"changed"`
	Added   int `json:"added"`
	Steered int `json:"steered"`
}

type build struct {
	Package string `json:"package,omitempty"`
	Version string `json:"version,omitempty"`
	BuildID string `json:"build_id,omitempty"`
	Note    string `json:"note,omitempty"` // how the version is known, or why not
}

type omission struct {
	Function string `json:"function"`
	Reason   string `json:"reason"`
	Detail   string `json:"detail"`
}

// remark is something to know of a patch that is safe.
type remark struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Detail string `json:"detail"`
}

func (r remark) String() string {
	kind := r.Kind
	if r.Kind == string(diff.NoEffect) {
		kind = "no effect on objects that exist already"
	}
	return fmt.Sprintf("%s: %s: %s", kind, r.Name, r.Detail)
}

func remarks(rs []diff.Remark) []remark {
	var out []remark
	for _, r := range rs {
		out = append(out, remark{string(r.Kind), r.Name, r.Detail})
	}
	return out
}

func printRemarks(w io.Writer, rs []remark) {
	for _, r := range rs {
		fmt.Fprintf(w, "  %s\n", clean(r.String()))
	}
}

type reason struct {
	Code     string   `json:"code"`
	Name     string   `json:"name,omitempty"` // function, object, section or module
	Detail   string   `json:"detail,omitempty"`
	PID      int      `json:"pid,omitempty"` // of the thread, when it is of another process
	Tid      int      `json:"tid,omitempty"`
	Thread   string   `json:"thread,omitempty"`
	Function string   `json:"function,omitempty"`
	Stack    []string `json:"stack,omitempty"`
}

func (r reason) String() string {
	parts := []string{r.Code, r.Name}
	if r.Function != "" && r.Thread == "" {
		parts = append(parts, "function "+r.Function)
	}
	parts = slices.DeleteFunc(append(parts, r.Detail), func(p string) bool { return p == "" })
	out := strings.Join(parts, ": ")
	if r.Thread != "" && r.Function != "" {
		of := ""
		if r.PID != 0 {
			of = fmt.Sprintf(" of process %d", r.PID)
		}
		out += fmt.Sprintf(" (thread %d \"%s\"%s in %s)", r.Tid, r.Thread, of, r.Function)
	}
	return out
}

func diffReasons(rs []diff.Reason) []reason {
	var out []reason
	for _, r := range rs {
		out = append(out, reason{Code: string(r.Code), Name: r.Name, Detail: r.Detail})
	}
	return out
}

// engineReasons are the reasons of a process.
func engineReasons(pid int, rs []engine.Reason) []reason {
	var out []reason
	for _, r := range rs {
		if r.Pid == pid {
			r.Pid = 0
		}
		out = append(out, reason{
			PID:  r.Pid,
			Code: string(r.Code), Name: r.Module, Detail: r.Detail,
			Tid: r.Tid, Thread: r.Thread, Function: r.Function, Stack: r.Stack,
		})
	}
	return out
}

// others are the pids of those that share memory with a process.
func others(pid int, sharing []process.ID) []int {
	var out []int
	for _, id := range sharing {
		if id.Pid != pid {
			out = append(out, id.Pid)
		}
	}
	return out
}

// builtReport describes the outcome of comparing two builds.
func builtReport(b *plan.Build) moduleReport {
	m := moduleReport{Module: b.Module, Verdict: string(b.Verdict), Reasons: diffReasons(b.Reasons), Functions: &functions{}, Remarks: remarks(b.Remarks), Typed: b.Typed}
	m.Functions.Changed, m.Functions.Added = b.Changed, b.Added
	if b.Patch != nil {
		m.Patch, m.Functions.Steered = string(b.Patch.ID), len(b.Patch.Steers)
	}
	for _, o := range b.Omitted {
		m.Omitted = append(m.Omitted, omission{o.Name, o.Reason, o.Detail})
	}
	return m
}

func (a *app) print(w io.Writer, command string, r report) error {
	r.Schema, r.Command, a.printed = schema, command, true
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// table aligns columns; a cell must not hold a tab.
func table(w io.Writer, head string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(strings.Fields(head), "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	t.Flush()
}

// clean makes a name from a process or a file fit for a terminal: what is not
// printed as itself (controls, line ends, bytes that are not UTF-8, marks that
// turn the direction of writing or cannot be seen) is shown as Go writes it.
func clean(s string) string {
	s = strconv.Quote(s)
	return strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`)
}

// program is the path of a process's program. That its file was replaced is
// said elsewhere.
func program(p *host.Proc) string { return strings.TrimSuffix(p.Exe, " (deleted)") }
