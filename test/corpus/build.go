package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/diff"
	"hotpatch/internal/patch"
	"hotpatch/internal/plan"
)

// childCommand makes this program do one step for one file, so that what
// crashes or takes too long is measured and hurts nobody else.
const childCommand = "child"

// most is the address space of a child, in bytes.
const most = 8 << 30

// said is what a child prints.
type said struct {
	Verdict string        `json:"verdict,omitempty"`
	Reasons []diff.Reason `json:"reasons,omitempty"`
	Changed int           `json:"changed,omitempty"`
	Added   int           `json:"added,omitempty"`
	Steered int           `json:"steered,omitempty"`
	Omitted int           `json:"omitted,omitempty"`
	Details []string      `json:"details,omitempty"` // check: what it found
	Proved  int           `json:"proved,omitempty"`  // check: references
	Memory  int64         `json:"memory,omitempty"`  // bytes, largest resident set
	Error   string        `json:"error,omitempty"`
}

// child is the whole of such a process: STEP OLD NEW NAME PATCH.
func child(args []string) int {
	if len(args) != 5 {
		fmt.Fprintln(os.Stderr, "corpus child: STEP OLD NEW NAME PATCH")
		return 2
	}
	// A step that wants all memory fails by itself.
	_ = unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: most, Max: most})
	var out said
	var data [2][]byte
	var err error
	for i := range data {
		if data[i], err = os.ReadFile(args[1+i]); err != nil {
			break
		}
	}
	if err == nil {
		switch args[0] {
		case "build":
			err = childBuild(&out, data[0], data[1], args[3], args[4])
		case "check":
			err = childCheck(&out, data[0], data[1], args[4])
		default:
			err = fmt.Errorf("unknown step %q", args[0])
		}
	}
	if err != nil {
		out.Error = err.Error()
	}
	out.Memory = residentMost()
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		return 1
	}
	return 0
}

// residentMost is VmHWM of this process. What the kernel tells the parent
// (ru_maxrss) counts the parent itself in, as it was before the exec.
func residentMost() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

func childBuild(out *said, old, fixed []byte, name, to string) error {
	b, err := plan.Pair(old, fixed, name, name, "corpus")
	if err != nil {
		return err
	}
	out.Verdict, out.Reasons, out.Changed, out.Added, out.Omitted = string(b.Verdict), b.Reasons, b.Changed, b.Added, len(b.Omitted)
	if b.Patch == nil {
		return nil
	}
	out.Steered = len(b.Patch.Steers)
	data, err := b.Patch.Encode()
	if err != nil {
		return err
	}
	if _, err := patch.Read(data); err != nil {
		return fmt.Errorf("read back what was encoded: %w", err)
	}
	return os.WriteFile(to, data, 0o644)
}

// build makes the patch of a file in a child.
func (b *bench) build(ctx context.Context, f *file, to string) {
	ran := b.runChild(ctx, "build", f, to)
	f.Build.Seconds, f.Build.Memory, f.Build.Error = ran.seconds, ran.memory, ran.why
	if ran.how != "" {
		f.Build.Verdict = ran.how
		return
	}
	s := ran.said
	f.Build.Verdict, f.Build.Reasons, f.Build.Omitted = s.Verdict, s.Reasons, s.Omitted
	f.Build.Functions.Changed, f.Build.Functions.Added, f.Build.Functions.Steered = s.Changed, s.Added, s.Steered
}

// ran is the outcome of a child.
type ran struct {
	said    said
	seconds float64
	memory  int64  // bytes
	how     string // empty, timedOut, crashed or failed
	why     string
}

func (b *bench) runChild(ctx context.Context, step string, f *file, patchFile string) ran {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", childCommand, step, f.old, f.new, f.Path, patchFile)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	err := cmd.Run()
	r := ran{seconds: time.Since(began).Seconds()}
	if cmd.ProcessState != nil {
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			r.memory = u.Maxrss << 10
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.how, r.why = timedOut, fmt.Sprintf("longer than %v", b.timeout)
	case err != nil:
		r.how, r.why = crashed, fmt.Sprintf("%v: %s", err, firstLines(errs.String()))
	default:
		if err := json.Unmarshal(out.Bytes(), &r.said); err != nil {
			r.how, r.why = crashed, "what it printed cannot be read: "+err.Error()
		} else if r.said.Error != "" {
			r.how, r.why = failed, r.said.Error
		}
		r.memory = cmp.Or(r.said.Memory, r.memory)
	}
	return r
}

// firstLines is the beginning of a crash: the message and the first frames.
func firstLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(len(lines), 14)], "; ")
}

// isProgram tells a position-independent program from a library: it names its
// loader, and it says so or has no soname and an entry.
func isProgram(o *elf.File) bool {
	flags, err := o.DynValue(elf.DT_FLAGS_1)
	if err == nil && len(flags) == 1 && elf.DynFlag1(flags[0])&elf.DF_1_PIE != 0 {
		return true
	}
	for _, p := range o.Progs {
		if p.Type == elf.PT_INTERP {
			names, _ := o.DynString(elf.DT_SONAME)
			return len(names) == 0
		}
	}
	return false
}

func identity(o *elf.File, r io.ReadSeeker) (string, error) {
	if s := o.Section(".note.gnu.build-id"); s != nil {
		if note, err := s.Data(); err == nil && len(note) > 16 {
			return hex.EncodeToString(note[16:]), nil
		}
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
