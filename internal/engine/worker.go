package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// The tracing is done by a worker, a process of its own: the same program, in
// its own session, out of reach of the terminal's signals and of the OOM
// killer. When the command that started it dies, it finishes or undoes what it
// began in the process at hand and leaves the others alone.

// Op is what a worker is to do.
type Op string

// The operations.
const (
	OpApply  Op = "apply"
	OpRemove Op = "remove"
	OpRevert Op = "revert" // the last step of each module
	OpVerify Op = "verify"
)

// Request is what a worker reads, one JSON document.
type Request struct {
	Op      Op         `json:"op"`
	Pids    []Target   `json:"pids"`
	IDs     []patch.ID `json:"ids,omitempty"` // to remove; none means all
	Options Options    `json:"options"`
	CPUs    []int      `json:"cpus,omitempty"` // that the worker may use; none: as it was started
}

// Target is a process and the patch files to apply to it, one transaction.
type Target struct {
	Pid     int      `json:"pid"`
	Start   uint64   `json:"start,omitempty"` // 0: whichever process has the pid
	Patches []string `json:"patches,omitempty"`
}

// message is one line that a worker writes.
type message struct {
	Event  *Event  `json:"event,omitempty"`
	Result *Result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// RunWorker is the whole of the worker: it reads a Request from in and writes
// events and results to out, one JSON document a line.
func RunWorker(in io.Reader, out io.Writer) error {
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	// Without the right to do so it is killed as soon as others are.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	process.BeNice()
	runtime.GOMAXPROCS(1) // one processor is enough, and leaves the others to those who are held
	dec := json.NewDecoder(in)
	var req Request
	if err := dec.Decode(&req); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	process.RunOn(req.CPUs)
	rehearse(req.Pids)
	var alone atomic.Bool // nobody reads any more
	go func() {
		_, _ = io.Copy(io.Discard, in)
		alone.Store(true)
	}()
	enc := json.NewEncoder(out)
	say := func(m message) {
		if enc.Encode(m) != nil {
			alone.Store(true)
		}
	}
	e, err := New(req.Options, func(ev Event) { say(message{Event: &ev}) })
	if err != nil {
		say(message{Error: err.Error()})
		return err
	}
	patches := map[string]*patch.Patch{}
	for _, tg := range req.Pids {
		if alone.Load() {
			return errors.New("the command that asked is gone")
		}
		r := e.one(req, tg, patches)
		say(message{Result: &r})
	}
	return nil
}

// rehearse does so out of the way of the process that comes first.
func rehearse(targets []Target) {
	if len(targets) > 0 {
		if p, err := process.Open(targets[0].Pid, nil); err == nil {
			p.KeepOff()
			defer p.Close()
		}
	}
	process.Rehearse()
}

// one serves one target.
func (e *Engine) one(req Request, tg Target, patches map[string]*patch.Patch) Result {
	res := Result{ID: process.ID{Pid: tg.Pid, Start: tg.Start}}
	if tg.Start != 0 {
		p, err := process.Open(tg.Pid, nil)
		if err == nil {
			if p.Start != tg.Start {
				err = process.ErrExited
			}
			p.Close()
		}
		if err != nil {
			res.fail(err)
			return res
		}
	}
	switch req.Op {
	case OpApply:
		var list []*patch.Patch
		for _, name := range tg.Patches {
			if patches[name] == nil {
				p, err := patch.Open(name)
				if err != nil {
					res.fail(&Reason{Code: BadPatch, Detail: err.Error()})
					return res
				}
				patches[name] = p
			}
			list = append(list, patches[name])
		}
		return e.Apply(tg.Pid, list)
	case OpRemove:
		return e.Remove(tg.Pid, req.IDs)
	case OpRevert:
		return e.Revert(tg.Pid, req.IDs)
	case OpVerify:
		return e.Verify(tg.Pid)
	}
	res.fail(fmt.Errorf("unknown operation %q", req.Op))
	return res
}

// Client starts workers.
type Client struct {
	// Args starts a worker; default is this program with the argument "worker".
	Args []string
}

// Do has a worker serve the request. Events may be nil. When ctx ends, the
// worker finishes or undoes the process at hand by itself; the results so far
// are returned with the error.
func (c *Client) Do(ctx context.Context, req Request, events func(Event)) ([]Result, error) {
	if len(req.Pids) > 0 { // a program that starts would be in its way, too
		if p, err := process.Open(req.Pids[0].Pid, nil); err == nil {
			p.KeepOff()
			req.CPUs = p.CPUs()
			defer p.Close()
		}
	}
	// This very program, even when its file was replaced meanwhile.
	cmd := exec.Command("/proc/self/exe", "worker")
	cmd.Args[0] = filepath.Base(os.Args[0])
	if c.Args != nil {
		cmd = exec.Command(c.Args[0], c.Args[1:]...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr // a worker says nothing there unless it crashes
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	if err := json.NewEncoder(in).Encode(req); err != nil {
		return nil, errors.Join(fmt.Errorf("ask worker: %w", err), cmd.Wait())
	}
	var results []Result
	var failed error
	for s := bufio.NewReader(out); ; {
		line, err := s.ReadBytes('\n')
		if err != nil {
			break
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			failed = fmt.Errorf("read from worker: %w", err)
			break
		}
		switch {
		case m.Event != nil && events != nil:
			events(*m.Event)
		case m.Result != nil:
			results = append(results, *m.Result)
		case m.Error != "":
			failed = fmt.Errorf("worker: %s", m.Error)
		}
	}
	in.Close()
	if ctx.Err() != nil {
		go func() { _ = cmd.Wait() }() // it ends in its own time
		return results, ctx.Err()
	}
	if err := cmd.Wait(); err != nil && failed == nil {
		failed = fmt.Errorf("worker: %w", err)
	}
	if failed == nil && len(results) < len(req.Pids) {
		failed = errors.New("worker: it ended early")
	}
	return results, failed
}
