package hits

import (
	"context"
	"errors"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var sink int

//go:noinline
func run() { sink++ }

//go:noinline
func idle() { sink-- }

func TestCount(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			run()
			time.Sleep(time.Millisecond)
		}
	}()
	addr := func(f func()) uint64 { return uint64(reflect.ValueOf(f).Pointer()) }
	// Five addresses take two turns; three of them lie in idle's body.
	addrs := []uint64{addr(idle), addr(idle) + 1, addr(idle) + 2, addr(idle) + 3, addr(run)}
	got, err := Count(t.Context(), os.Getpid(), addrs, func(context.Context) error {
		time.Sleep(100 * time.Millisecond)
		return nil
	})
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOSYS) {
		t.Skipf("no hardware breakpoints through perf_event_open: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := got[addr(run)]; n < 10 || n > 110 {
		t.Errorf("run was executed about 100 times, counted %d", n)
	}
	if n := got[addr(idle)]; n != 0 {
		t.Errorf("idle was not executed, counted %d", n)
	}
}
