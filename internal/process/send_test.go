package process

import (
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendUntilBack sends a thread and waits until it has come back.
func sendUntilBack(tr *Tracer, tid int, g Gadgets, nr uintptr, args ...uint64) (held time.Duration, err error) {
	const budget = 10 * time.Second
	maps, err := tr.Process().Maps()
	if err != nil {
		return 0, err
	}
	e, held, err := tr.Send(tid, g, StacksIn(maps), budget, nr, args...)
	if err != nil {
		return held, err
	}
	for {
		nap(100 * time.Microsecond)
		if there, err := e.Underway(tr, budget); err != nil || !there {
			return held, err
		}
	}
}

// TestSend has threads that do all kinds of things make calls without being
// held for them: each call is made, and nobody notices.
func TestSend(t *testing.T) {
	prog := build(t, "check.c")
	for _, c := range []struct{ mode, n string }{{"calls", "13"}, {"busy", "1"}, {"mixed", "4"}} {
		t.Run(c.mode+c.n, func(t *testing.T) {
			g := run(t, prog, c.mode, c.n)
			p := open(t, g)
			maps, err := p.Maps()
			if err != nil {
				t.Fatal(err)
			}
			gad, err := p.FindGadgets(maps)
			if err != nil {
				t.Fatal(err)
			}
			tids, err := p.Tids()
			if err != nil {
				t.Fatal(err)
			}
			const base, size = Addr(0x10000000000), Addr(0x1000)
			var held []time.Duration
			mapped := func(a Addr) bool {
				maps, err := p.Maps()
				return err == nil && slices.ContainsFunc(maps, func(m Mapping) bool { return m.Contains(a) })
			}
			err = p.Trace(func(tr *Tracer) error {
				for round := range 30 {
					for i, tid := range tids {
						a := base + Addr(i*2+1)*size
						nr, args := uintptr(unix.SYS_MMAP), []uint64{uint64(a), uint64(size), unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED, ^uint64(0), 0}
						if round%2 == 1 {
							nr, args = unix.SYS_MUNMAP, []uint64{uint64(a), uint64(size)}
						}
						was := mapped(a)
						d, err := sendUntilBack(tr, tid, gad, nr, args...)
						if errors.Is(err, ErrNoThread) {
							if mapped(a) != was {
								t.Errorf("thread %d was not sent, and made the call", tid)
							}
							continue
						}
						if err != nil {
							return err
						}
						if mapped(a) != (round%2 == 0) {
							t.Errorf("round %d: thread %d came back without having made the call", round, tid)
						}
						held = append(held, d)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d sent, median %v", len(held), median(held))
			if len(held) < 15 {
				t.Errorf("only %d were sent", len(held))
			}
			g.alive()
			if c.mode == "calls" {
				g.rounds()
			}
		})
	}
}
