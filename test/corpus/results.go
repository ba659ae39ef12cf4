package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hotpatch/internal/diff"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

// result is what was found of one source.
type result struct {
	Source   string    `json:"source"`
	Old      string    `json:"old"` // versions of the source
	New      string    `json:"new"`
	Digest   string    `json:"digest"` // of the tool's source and the steps
	When     time.Time `json:"when"`
	Packages []string  `json:"packages"`
	Fetched  int64     `json:"fetched"` // bytes of both builds' packages
	ELFs     int       `json:"elfs"`    // programs and libraries in both builds
	Files    []*file   `json:"files"`   // those that differ
	Seconds  float64   `json:"seconds"`
	Error    string    `json:"error,omitempty"`

	Workloads []worked `json:"workloads,omitempty"`
}

// file is a program or library that differs.
type file struct {
	Package string `json:"package"`
	Path    string `json:"path"` // in the fixed package
	Program bool   `json:"program"`
	Bytes   int64  `json:"bytes"` // of both files
	Build   built  `json:"build"`
	Check   step   `json:"check"`
	Live    lived  `json:"live"`

	old, new string // files
}

// The outcomes of the builder; those beyond diff's verdicts are failures.
const (
	timedOut = "time-out"
	crashed  = "crash"
	failed   = "error"
)

// built is the outcome of the builder for one file.
type built struct {
	Verdict   string         `json:"verdict"`
	Reasons   []diff.Reason  `json:"reasons,omitempty"`
	Functions tool.Functions `json:"functions"`
	Omitted   int            `json:"omitted,omitempty"`
	Seconds   float64        `json:"seconds"`
	Memory    int64          `json:"memory"` // bytes, largest resident set
	Error     string         `json:"error,omitempty"`
}

// step is the outcome of the static check.
type step struct {
	State   string   `json:"state,omitempty"` // empty: not done
	Details []string `json:"details,omitempty"`
	Seconds float64  `json:"seconds,omitempty"`
	Memory  int64    `json:"memory,omitempty"`

	References int `json:"references,omitempty"` // that were proved
}

// The states of a step; timedOut, crashed and failed are others.
const (
	passed   = "proved"
	unproved = "unproved" // no fault, but not everything could be proved
	faulty   = "faulty"
	notYet   = "" // not done
)

// store keeps results.
type store struct{ dir string }

func (s store) path(source string) string { return filepath.Join(s.dir, source+".json") }

func (s store) read(source string) (*result, error) {
	text, err := os.ReadFile(s.path(source))
	if err != nil {
		return nil, err
	}
	r := &result{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path(source), err)
	}
	return r, nil
}

func (s store) write(r *result) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.MkdirAll(s.dir, 0o755)
	}
	if err == nil {
		err = table.Replace(s.path(r.Source), func(w io.Writer) error { _, err := w.Write(text); return err })
	}
	if err != nil {
		return fmt.Errorf("keep the results of %s: %w", r.Source, err)
	}
	return nil
}

// digest says which tool the results are of: it covers the source of what the
// steps run, and the steps themselves.
func digest(ctx context.Context, root, steps string) (string, error) {
	packages := []string{"./internal/plan"}
	if strings.Contains(steps, "check") {
		packages = append(packages, "./internal/check")
	}
	if strings.Contains(steps, "live") {
		packages = append(packages, "./cmd/hotpatch")
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-deps", "-f", `{{if .Module}}{{if .Module.Main}}{{range .GoFiles}}{{$.Dir}}/{{.}}
{{end}}{{end}}{{end}}`}, packages...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("list the tool's source: %w", err)
	}
	files := strings.Fields(string(out))
	if strings.Contains(steps, "live") {
		files = append(files, filepath.Join(root, "test/corpus/live.go"), filepath.Join(root, "test/corpus/hold.go"),
			filepath.Join(root, "test/corpus/needs.go"), filepath.Join(root, "test/corpus/work.go"), filepath.Join(root, "test/corpus/targets/hold.c"))
	}
	files = append(files, filepath.Join(root, "go.mod"))
	slices.Sort(files)
	h := sha256.New()
	fmt.Fprintln(h, steps)
	for _, name := range slices.Compact(files) {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read the tool's source: %w", err)
		}
		sum := sha256.Sum256(text)
		fmt.Fprintf(h, "%s %x\n", strings.TrimPrefix(name, root), sum)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// digestOf is the digest for one source: that of the tool and its workloads.
func (b *bench) digestOf(source string) string {
	if own := workloadsOf(source); len(own) > 0 {
		return fmt.Sprintf("%s-%.4x", b.digest, sha256.Sum256(fmt.Append(nil, own)))
	}
	return b.digest
}
