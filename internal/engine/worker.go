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
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// The tracing is done by a worker, a process of its own: the same program, in
// its own session, out of reach of the terminal's signals and of the OOM
// killer. When the command that started it is to end, it tells the worker, which
// gives up what only waits. When the command dies, it finishes or undoes what it
// began in the processes at hand and leaves the others alone.
//
// A few processes are served one after the other, out of the way of each. Where
// there are more, there is a worker for each processor, and each has several
// transactions under way: one goes on while others wait for their processes.

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
	CPUs    []int      `json:"cpus,omitempty"`  // that the worker may use; none: as it was started
	Crowd   bool       `json:"crowd,omitempty"` // too many to keep out of the way of each
	Quiet   bool       `json:"quiet,omitempty"` // report the ends alone, not each step
}

// Target is a process and the patch files to apply to it, one transaction.
type Target struct {
	Pid     int      `json:"pid"`
	Start   uint64   `json:"start,omitempty"` // 0: whichever process has the pid
	Patches []string `json:"patches,omitempty"`
}

// order is what a worker reads after its request.
type order struct {
	Cancel bool `json:"cancel"`
}

// errCancelled is why a transaction was given up.
var errCancelled = &Reason{Code: Cancelled, Detail: "nothing was changed"}

// message is one line that a worker writes.
type message struct {
	Index int    `json:"index"` // of the target whose result it is
	Event *Event `json:"event,omitempty"`
	Error string `json:"error,omitempty"`
}

// How processes are shared out.
const (
	few      = 8  // are served one after the other
	perCrew  = 64 // for so many another worker is worth its start
	underWay = 32 // transactions in one worker
)

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
	rehearse(req)
	var alone atomic.Bool // nobody reads any more
	enc := json.NewEncoder(out)
	var saying sync.Mutex
	say := func(m message) {
		saying.Lock()
		defer saying.Unlock()
		if enc.Encode(m) != nil {
			alone.Store(true)
		}
	}
	var step func(Event)
	if !req.Quiet {
		step = func(ev Event) { say(message{Event: &ev}) }
	}
	e, err := New(req.Options, step)
	if err != nil {
		say(message{Error: err.Error()})
		return err
	}
	go func() {
		for o := (order{}); dec.Decode(&o) == nil; {
			e.cancelled.Store(o.Cancel)
		}
		alone.Store(true)
	}()
	defer process.Calm()() // Engine.tidy sees to it
	atOnce := 1
	if e.crowd = req.Crowd; e.crowd {
		atOnce = underWay
	}
	var next atomic.Int64
	var crew sync.WaitGroup
	for range min(atOnce, len(req.Pids)) {
		crew.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(req.Pids) || alone.Load() {
					return
				}
				r := e.one(req, req.Pids[i])
				say(message{Index: i, Event: &Event{ID: r.ID, Program: r.Program, Patches: r.Patches, State: string(r.State), Result: &r}})
			}
		})
	}
	crew.Wait()
	if alone.Load() {
		return errors.New("the command that asked is gone")
	}
	return nil
}

// rehearse does so out of the way of the process that comes first.
func rehearse(req Request) {
	if len(req.Pids) > 0 && !req.Crowd {
		if p, err := process.Open(req.Pids[0].Pid, nil); err == nil {
			p.KeepOff()
			defer p.Close()
		}
	}
	process.Rehearse()
}

// one serves one target.
func (e *Engine) one(req Request, tg Target) Result {
	id := process.ID{Pid: tg.Pid, Start: tg.Start}
	switch req.Op {
	case OpApply:
		list, err := e.patchFiles(tg.Patches)
		if err != nil {
			res := Result{ID: id}
			res.fail(&Reason{Code: BadPatch, Detail: err.Error()})
			return res
		}
		return e.applyTo(id, list)
	case OpRemove:
		return e.takeOut(id, req.IDs, false)
	case OpRevert:
		return e.takeOut(id, req.IDs, true)
	case OpVerify:
		return e.verifyOf(id)
	}
	res := Result{ID: id}
	res.fail(fmt.Errorf("unknown operation \"%s\"", req.Op))
	return res
}

// patchFiles reads patches, each once for all processes.
func (e *Engine) patchFiles(names []string) (list []*patch.Patch, err error) {
	e.turn.Lock()
	defer e.turn.Unlock()
	for _, name := range names {
		p := e.files[name]
		if p == nil {
			if p, err = patch.Open(name); err != nil {
				return nil, err
			}
			e.files[name] = p
		}
		list = append(list, p)
	}
	return list, nil
}

// Client starts workers.
type Client struct {
	// Args starts a worker; default is this program with the argument "worker".
	Args []string
}

// serve is Do for targets that share no memory.
func (c *Client) serve(ctx context.Context, req Request, events func(Event)) ([]Result, error) {
	n := len(req.Pids)
	workers := 1
	if req.Crowd = n > few; req.Crowd {
		workers = max(1, min(runtime.NumCPU(), n/perCrew))
	} else if n > 0 { // a program that starts would be in its way, too
		if p, err := process.Open(req.Pids[0].Pid, nil); err == nil {
			p.KeepOff()
			req.CPUs = p.CPUs()
			defer p.Close()
		}
	}
	var mu sync.Mutex
	results := make([]*Result, n)
	var g errgroup.Group
	for w := range workers {
		part := req
		part.Pids = nil
		for i := w; i < n; i += workers {
			part.Pids = append(part.Pids, req.Pids[i])
		}
		g.Go(func() error {
			return c.work(ctx, part, func(m message) {
				mu.Lock()
				defer mu.Unlock()
				if m.Event.Result != nil {
					results[w+m.Index*workers] = m.Event.Result
				}
				if events != nil {
					events(*m.Event)
				}
			})
		})
	}
	err := g.Wait()
	var out []Result
	for _, r := range results {
		if r != nil {
			out = append(out, *r)
		}
	}
	if err == nil && len(out) < n {
		err = errors.New("worker: it ended early")
	}
	return out, err
}

// work has one worker serve a request.
func (c *Client) work(ctx context.Context, req Request, each func(message)) error {
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
		return fmt.Errorf("start worker: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	ask := json.NewEncoder(in)
	if err := ask.Encode(req); err != nil {
		return errors.Join(fmt.Errorf("ask worker: %w", err), cmd.Wait())
	}
	stop := context.AfterFunc(ctx, func() { _ = ask.Encode(order{Cancel: true}) }) // it may have ended
	defer stop()
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
		case m.Event != nil && m.Index >= 0 && m.Index < len(req.Pids):
			each(m)
		case m.Error != "":
			failed = fmt.Errorf("worker: %s", m.Error)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil && failed == nil {
		failed = fmt.Errorf("worker: %w", err)
	}
	return failed
}
