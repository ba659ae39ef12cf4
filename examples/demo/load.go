package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"hotpatch/test/meter"
)

const (
	keptConnections = 32
	shortWorkers    = 4
)

// load is what keeps a server busy: connections that stay and count, and many
// that come, ask and go.
type load struct {
	meter meter.Meter
	stop  context.CancelFunc
	wg    sync.WaitGroup
	kept  []*client
	fell  atomic.Int32 // kept connections that failed
	short atomic.Int64 // connections that came and went
}

// startLoad opens the kept connections and sends requests until halt.
func startLoad(ctx context.Context, addr string) (*load, error) {
	l := &load{}
	for i := range keptConnections {
		c, err := dial(addr, fmt.Sprintf("kept-%d", i), fmt.Sprintf("secret-%d", i))
		if err != nil {
			l.close()
			return nil, err
		}
		l.kept = append(l.kept, c)
	}
	ctx, l.stop = context.WithCancel(ctx)
	l.meter.Enter(meter.Before)
	for _, c := range l.kept {
		l.wg.Go(func() { l.keep(ctx, c) })
	}
	for range shortWorkers {
		l.wg.Go(func() { l.comeAndGo(ctx, addr) })
	}
	return l, nil
}

// halt ends the load and waits for the last answers.
func (l *load) halt() {
	l.stop()
	l.wg.Wait()
	l.close()
}

func (l *load) close() {
	for _, c := range l.kept {
		c.close()
	}
}

// keep uses one connection for as long as the load runs. Its session's count
// must go on by one each time: a restart or a lost session would show.
func (l *load) keep(ctx context.Context, c *client) {
	for n := 1; ctx.Err() == nil; n++ {
		err := l.meter.Do(func() error { return c.count(n) })
		if err == nil {
			err = l.meter.Do(func() error { return honestEcho(c) })
		}
		if err != nil {
			l.fell.Add(1)
			return
		}
		rest(ctx, 5*time.Millisecond)
	}
}

// comeAndGo opens connections, asks on each and ends it.
func (l *load) comeAndGo(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		_ = l.meter.Do(func() error {
			c, err := dial(addr, "short", "none")
			if err != nil {
				return err
			}
			defer c.close()
			if err := c.count(1); err != nil {
				return err
			}
			return honestEcho(c)
		})
		l.short.Add(1)
		rest(ctx, time.Millisecond)
	}
}

// honestEcho asks for what it sends.
func honestEcho(c *client) error {
	text := "the quick brown fox jumps over the lazy dog"
	got, err := c.echo(len(text), text)
	if err == nil && !bytes.Equal(got, []byte(text)) {
		err = fmt.Errorf("echo: got %q", got)
	}
	return err
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
