package host

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Flags of a task (include/linux/sched.h).
const (
	exiting      = 0x00000004 // PF_EXITING
	kernelThread = 0x00200000 // PF_KTHREAD
)

// stat is what /proc/PID/stat says, proc_pid_stat(5).
type stat struct {
	comm    string
	state   byte
	ppid    int
	flags   uint64
	threads int
	start   uint64 // clock ticks since boot
}

func parseStat(text string) (stat, error) {
	var s stat
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')') // comm may hold both
	if from < 0 || to < from {
		return s, errors.New("stat without a name")
	}
	s.comm = text[from+1 : to]
	f := strings.Fields(text[to+1:]) // f[0] is field 3
	if len(f) < 20 || len(f[0]) != 1 {
		return s, fmt.Errorf("stat with %d fields", len(f)+2)
	}
	var errs [4]error
	s.state = f[0][0]
	s.ppid, errs[0] = strconv.Atoi(f[1])
	s.flags, errs[1] = strconv.ParseUint(f[6], 10, 64)
	s.threads, errs[2] = strconv.Atoi(f[17])
	s.start, errs[3] = strconv.ParseUint(f[19], 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return s, fmt.Errorf("read stat: %w", err)
	}
	return s, nil
}

// parseUID takes the effective user from /proc/PID/status.
func parseUID(text string) (uint32, error) {
	for line := range strings.Lines(text) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			if f := strings.Fields(ids); len(f) == 4 {
				uid, err := strconv.ParseUint(f[1], 10, 32)
				return uint32(uid), err
			}
		}
	}
	return 0, errors.New("status without Uid")
}

// container guesses the container from /proc/PID/cgroup: the 64 hex digits of
// Docker, Podman, containerd and CRI-O, or the name that LXC and systemd-nspawn use.
func container(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			part = strings.TrimSuffix(part, ".scope")
			if i := len(part) - 64; i >= 0 && strings.Trim(part[i:], "0123456789abcdef") == "" {
				return part[i:]
			}
			for _, prefix := range []string{"lxc.payload.", "machine-"} {
				if name, ok := strings.CutPrefix(part, prefix); ok {
					return name
				}
			}
		}
	}
	return ""
}
