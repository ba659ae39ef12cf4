// Package hits counts how often a process executes given addresses. It uses
// the processor's breakpoints through perf_event_open(2) with
// PERF_TYPE_BREAKPOINT: nothing is written into the process and it never
// stops while it works.
package hits

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	registers    = 4 // DR0 to DR3: Intel SDM volume 3B, "Debug Registers"
	execute      = 4 // HW_BREAKPOINT_X of linux/hw_breakpoint.h
	executeBytes = 8 // its bp_len is sizeof(long): perf_event_open(2)

	patience = time.Second // for a breakpoint that is still taken
)

// Count returns how often the threads of the process, and the threads and
// processes that they start, executed each address while work ran. Addresses
// take turns, four at a time, and work runs for each turn. Without hardware
// breakpoints, or without the rights to use them, it is an error.
func Count(ctx context.Context, pid int, addrs []uint64, work func(context.Context) error) (map[uint64]uint64, error) {
	counts := make(map[uint64]uint64, len(addrs))
	for len(addrs) > 0 && ctx.Err() == nil {
		n := min(registers, len(addrs))
		if err := countGroup(ctx, pid, addrs[:n], work, counts); err != nil {
			return nil, fmt.Errorf("count executions in %d: %w", pid, err)
		}
		addrs = addrs[n:]
	}
	return counts, ctx.Err()
}

func countGroup(ctx context.Context, pid int, addrs []uint64, work func(context.Context) error, counts map[uint64]uint64) error {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	type counter struct {
		fd   int
		addr uint64
	}
	var open []counter
	defer func() {
		for _, c := range open {
			_ = unix.Close(c.fd)
		}
	}()
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			continue
		}
		for _, addr := range addrs {
			fd, err := openCounter(tid, addr)
			if errors.Is(err, unix.ESRCH) {
				continue // the thread has ended
			}
			if err != nil {
				return fmt.Errorf("set a breakpoint at %#x: %w", addr, err)
			}
			open = append(open, counter{fd, addr})
		}
	}
	if err := work(ctx); err != nil {
		return err
	}
	for _, c := range open {
		var value [8]byte
		if _, err := unix.Read(c.fd, value[:]); err != nil {
			return fmt.Errorf("read a counter: %w", err)
		}
		counts[c.addr] += binary.NativeEndian.Uint64(value[:])
	}
	return nil
}

// openCounter sets one breakpoint. That none is free (ENOSPC) passes: who else
// counts takes turns, too.
func openCounter(tid int, addr uint64) (int, error) {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
			Type:    unix.PERF_TYPE_BREAKPOINT,
			Size:    unix.PERF_ATTR_SIZE_VER5,
			Bits:    unix.PerfBitInherit | unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv,
			Bp_type: execute,
			Ext1:    addr,
			Ext2:    executeBytes,
		}, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if !errors.Is(err, unix.ENOSPC) || time.Since(began) > patience {
			return fd, err
		}
	}
}
