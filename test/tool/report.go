package tool

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Report is what every command prints with --json.
type Report struct {
	Schema    string    `json:"schema"`
	Command   string    `json:"command"`
	Processes []Process `json:"processes"`
	Modules   []Module  `json:"modules"` // build
	Patch     *Patch    `json:"patch"`   // inspect
}

// Patch is what inspect says of one module's patch.
type Patch struct {
	ID        string     `json:"id"`
	Module    string     `json:"module"`
	Functions []Function `json:"functions"`
}

// Function is a function in the overlay of a patch.
type Function struct {
	Name    string  `json:"name"`
	Change  string  `json:"change"` // changed, added or carried
	Ranges  []Range `json:"ranges"` // image addresses of the fixed build; the first holds the entry
	Steered bool    `json:"steered"`
}

// Range is the half-open interval of image addresses from Start to End.
type Range struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

// Process is what a command says of one process.
type Process struct {
	PID      int             `json:"pid"`
	Program  string          `json:"program"`
	State    string          `json:"state"`
	Modules  []Module        `json:"modules"`
	Level    string          `json:"level"`
	PauseUS  float64         `json:"pause_us"` // microseconds
	CheckUS  float64         `json:"check_us"` // of that
	Stops    int             `json:"stops"`
	Verified bool            `json:"verified"`
	Reasons  []Reason        `json:"reasons"`
	Findings json.RawMessage `json:"findings"` // verify
}

// Module is what a command says of one module of a process or of a pair.
type Module struct {
	Module    string          `json:"module"`
	Patch     string          `json:"patch"`
	Verdict   string          `json:"verdict"` // build: patchable, unchanged or refused
	State     string          `json:"state"`   // status
	Functions Functions       `json:"functions"`
	Omitted   json.RawMessage `json:"omitted"`
	Reasons   []Reason        `json:"reasons"`
	Seconds   float64         `json:"seconds"`
	File      string          `json:"file"`
	// OverlayBias is the address in the process minus the fixed build's image
	// address, of a module that is patched.
	OverlayBias uint64 `json:"overlay_bias"`
}

// Functions counts the functions of a patch.
type Functions struct {
	Changed int `json:"changed"`
	Added   int `json:"added"`
	Steered int `json:"steered"`
}

// Reason is why something was refused, blocked or failed.
type Reason struct {
	Code   string `json:"code"`
	Name   string `json:"name"`
	Detail string `json:"detail"`
	// A thread that is in the way, and its innermost function.
	Tid      int    `json:"tid"`
	Thread   string `json:"thread"`
	Function string `json:"function"`
}

// Explain puts reasons into one line.
func Explain(reasons []Reason) string {
	var parts []string
	for _, r := range reasons {
		text := strings.TrimSpace(strings.Join([]string{r.Code, r.Name, r.Detail}, " "))
		if r.Tid != 0 {
			text += fmt.Sprintf(" (thread %d %q in %s)", r.Tid, r.Thread, r.Function)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// Count adds up the functions of all modules.
func (p Process) Count() Functions {
	var f Functions
	for _, m := range p.Modules {
		f.Changed += m.Functions.Changed
		f.Added += m.Functions.Added
		f.Steered += m.Functions.Steered
	}
	return f
}
