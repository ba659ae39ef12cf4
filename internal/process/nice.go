package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// BeNice lets everything else on the machine go before this program, all of
// its threads and those to come: its work is not urgent, but for the moments
// in which it holds threads, and then it has real-time priority.
func BeNice() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 19) // lowering is always allowed
		}
	}
}
