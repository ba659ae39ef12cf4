// Command demo shows hotpatch at work: a server with a memory-safety bug runs
// under load, an attack reads another session's secret, the server is patched
// while it runs, the attack fails, and nobody loses a connection. It ends with
// a table of what was measured, and with exit code 1 and a line that says what
// when anything was not so.
//
//	go run ./examples/demo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"hotpatch/test/meter"
	"hotpatch/test/table"
	"hotpatch/test/tool"
)

const secret = "correct-horse-battery-staple"

func main() {
	path := flag.String("tool", "", "the hotpatch `executable`; built from this checkout when empty")
	calm := flag.Duration("calm", 2*time.Second, "how long to measure before and after patching")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := run(ctx, *path, *calm); err != nil {
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(1)
	}
}

// stage is the scene: the tool, the server and those who use it.
type stage struct {
	tool     tool.Tool
	server   *server
	load     *load
	attacker *client
	victim   *client
	applied  []tool.Process
}

func run(ctx context.Context, toolPath string, calm time.Duration) error {
	dir, err := os.MkdirTemp("", "hotpatch-demo-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	s := &stage{tool: tool.Tool{Path: toolPath}}
	if err := s.build(ctx, dir); err != nil {
		return err
	}
	defer s.server.stop()
	if err := s.connect(ctx); err != nil {
		return err
	}
	err = s.play(ctx, calm)
	s.load.halt()
	s.attacker.close()
	s.victim.close()
	if err != nil {
		return err
	}
	return s.report()
}

// build compiles tool and server, starts the vulnerable server, and puts the
// fixed one in its place by a rename, as a package manager does.
func (s *stage) build(ctx context.Context, dir string) error {
	root, err := tool.Root(ctx)
	if err != nil {
		return err
	}
	if s.tool.Path == "" {
		say("building hotpatch")
		if s.tool, err = tool.Build(ctx, dir); err != nil {
			return err
		}
	}
	say("building the example server, vulnerable and fixed")
	source := filepath.Join(root, "examples", "sessiond")
	path, fixed := filepath.Join(dir, "sessiond"), filepath.Join(dir, "sessiond.new")
	if err := compile(ctx, source, path); err != nil {
		return err
	}
	if err := compile(ctx, source, fixed, "-DFIXED"); err != nil {
		return err
	}
	if s.server, err = start(path); err != nil {
		return err
	}
	say("the vulnerable server runs: process %d, %s", s.server.pid(), s.server.addr)
	if err := os.Rename(fixed, path); err != nil {
		s.server.stop()
		return fmt.Errorf("replace the server's file: %w", err)
	}
	say("the fixed build has replaced its file; the process still runs the old one")
	return nil
}

// connect brings attacker and victim, whose session lies behind the
// attacker's, and then the load.
func (s *stage) connect(ctx context.Context) (err error) {
	if s.attacker, err = dial(s.server.addr, "mallory", "none"); err != nil {
		return err
	}
	if s.victim, err = dial(s.server.addr, "alice", secret); err != nil {
		return err
	}
	if s.load, err = startLoad(ctx, s.server.addr); err != nil {
		return err
	}
	say("load: %d connections that stay, %d clients that come and go", keptConnections, shortWorkers)
	return nil
}

func (s *stage) play(ctx context.Context, calm time.Duration) error {
	rest(ctx, calm)
	if err := s.expect(true, "before the patch"); err != nil {
		return err
	}
	s.load.meter.Enter(meter.During)
	for _, step := range []func(context.Context) error{s.apply, s.verify, s.rollback, s.apply, s.verify} {
		if err := step(ctx); err != nil {
			return err
		}
		rest(ctx, 500*time.Millisecond)
	}
	s.load.meter.Enter(meter.After)
	rest(ctx, calm)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stopped: %w", err)
	}
	return s.expect(false, "at the end")
}

func (s *stage) apply(ctx context.Context) error {
	ps, err := s.tool.Apply(ctx, []int{s.server.pid()})
	if err != nil {
		return err
	}
	p := ps[0]
	if p.State != "patched" || !p.Verified {
		return fmt.Errorf("apply: state %q, verified %v: %s", p.State, p.Verified, tool.Explain(p.Reasons))
	}
	s.applied = append(s.applied, p)
	say("apply: %s, %.0f µs pause", p.State, p.PauseUS)
	return s.expect(false, "after apply")
}

func (s *stage) verify(ctx context.Context) error {
	ps, err := s.tool.Verify(ctx, []int{s.server.pid()})
	if err != nil {
		return err
	}
	p := ps[0]
	if p.State != "verified" {
		return fmt.Errorf("verify: state %q: %s %s", p.State, p.Findings, tool.Explain(p.Reasons))
	}
	say("verify: %s", p.State)
	return nil
}

func (s *stage) rollback(ctx context.Context) error {
	ps, err := s.tool.Rollback(ctx, []int{s.server.pid()})
	if err != nil {
		return err
	}
	p := ps[0]
	if p.State != "rolled-back" {
		return fmt.Errorf("rollback: state %q: %s", p.State, tool.Explain(p.Reasons))
	}
	say("rollback: %s, %.0f µs pause", p.State, p.PauseUS)
	return s.expect(true, "after rollback")
}

// expect attacks and says whether that went as it should.
func (s *stage) expect(leak bool, when string) error {
	leaked, err := s.attacker.attack(secret)
	if err != nil {
		return err
	}
	outcome := map[bool]string{true: "reads the other session's secret", false: "fails: the server refuses the request"}
	if leaked != leak {
		return fmt.Errorf("the attack %s %s", outcome[leaked], when)
	}
	say("the attack %s", outcome[leaked])
	return nil
}

// report prints the table and says what was not as promised.
func (s *stage) report() error {
	var bad []error
	if !s.server.alive() {
		bad = append(bad, errors.New("the server has ended"))
	}
	var rows [][]string
	for _, sum := range s.load.meter.Summarize() {
		rows = append(rows, []string{
			sum.Phase.String(), fmt.Sprint(sum.Requests), fmt.Sprint(sum.Failed),
			fmt.Sprintf("%.0f", sum.PerSecond), meter.Micros(sum.P50), meter.Micros(sum.P99), meter.Micros(sum.Longest),
		})
		if sum.Failed > 0 {
			bad = append(bad, fmt.Errorf("%d requests failed %v the patch: %w", sum.Failed, sum.Phase, errors.Join(sum.Errors...)))
		}
		if sum.Requests == 0 {
			bad = append(bad, fmt.Errorf("no request was answered %v the patch", sum.Phase))
		}
	}
	fmt.Println()
	if err := table.Write(os.Stdout, []string{"phase", "requests", "failed", "per second", "p50", "p99", "longest"}, rows); err != nil {
		return err
	}
	fell := int(s.load.fell.Load())
	if fell > 0 {
		bad = append(bad, fmt.Errorf("%d of %d connections that stay were lost", fell, keptConnections))
	}
	first, last := s.applied[0], s.applied[len(s.applied)-1]
	n := first.Count()
	fmt.Println()
	if err := table.Write(os.Stdout, []string{"what", "measured"}, [][]string{
		{"connections kept", fmt.Sprintf("%d of %d", keptConnections-fell, keptConnections)},
		{"connections that came and went", fmt.Sprint(s.load.short.Load())},
		{"functions", fmt.Sprintf("%d changed, %d added, %d steered", n.Changed, n.Added, n.Steered)},
		{"level of consistency", first.Level},
		{"pause, first and second apply", fmt.Sprintf("%.0f and %.0f µs", first.PauseUS, last.PauseUS)},
	}); err != nil {
		return err
	}
	return errors.Join(bad...)
}

func say(format string, args ...any) {
	fmt.Printf("-- "+format+"\n", args...)
}
