package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// floorOf measures what this kernel takes for a stop in which nothing is done:
// every thread of a process is interrupted and waited for, its registers are
// read, and it is let go. It shares no code with hotpatch. Microseconds.
func floorOf(pid, rounds int) ([]float64, error) {
	runtime.LockOSThread() // a tracer is a thread: ptrace(2)
	defer runtime.UnlockOSThread()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	var tids []int
	defer func() {
		for _, tid := range tids { // to detach a thread it has to be stopped
			_ = unix.PtraceInterrupt(tid)
			_ = waitFor(tid)
			_ = unix.PtraceDetach(tid)
		}
	}()
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, fmt.Errorf("list threads: %w", err)
		}
		if err := unix.PtraceSeize(tid); err != nil {
			return nil, fmt.Errorf("seize thread %d: %w", tid, err)
		}
		tids = append(tids, tid)
	}
	var took []float64
	for range rounds {
		time.Sleep(20 * time.Millisecond)
		setPolicy(unix.SCHED_FIFO, 1) // as hotpatch does
		begin := time.Now()
		err := stopAll(tids)
		took = append(took, micros(time.Since(begin)))
		setPolicy(unix.SCHED_NORMAL, 0)
		if err != nil {
			return nil, err
		}
	}
	return took, nil
}

func stopAll(tids []int) error {
	for _, tid := range tids {
		if err := unix.PtraceInterrupt(tid); err != nil {
			return fmt.Errorf("interrupt thread %d: %w", tid, err)
		}
	}
	for _, tid := range tids {
		if err := waitFor(tid); err != nil {
			return fmt.Errorf("wait for thread %d: %w", tid, err)
		}
	}
	var regs unix.PtraceRegs
	for _, tid := range tids {
		if err := unix.PtraceGetRegs(tid, &regs); err != nil {
			return fmt.Errorf("read registers of thread %d: %w", tid, err)
		}
	}
	for _, tid := range tids {
		if err := unix.PtraceCont(tid, 0); err != nil {
			return fmt.Errorf("resume thread %d: %w", tid, err)
		}
	}
	return nil
}

func waitFor(tid int) error {
	_, err := unix.Wait4(tid, nil, unix.WALL, nil)
	return err
}

// setPolicy sets how the calling thread is scheduled; without the right to, it stays.
func setPolicy(policy int, priority int32) {
	param := struct{ priority int32 }{priority}
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, uintptr(policy), uintptr(unsafe.Pointer(&param)))
}
