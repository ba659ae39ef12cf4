package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MissingCapabilities names the capabilities that this program lacks to look
// into other users' processes and to patch them, each with what it is for.
func MissingCapabilities() (lacks []string, err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return nil, fmt.Errorf("read capabilities: %w", err)
	}
	has := func(c uint) bool { return data[c/32].Effective>>(c%32)&1 != 0 }
	if !has(unix.CAP_SYS_PTRACE) {
		lacks = append(lacks, "CAP_SYS_PTRACE (to trace other users' processes)")
	}
	// proc_pid_map_files(5): since Linux 5.9 either of the two.
	if !has(unix.CAP_SYS_ADMIN) && !has(unix.CAP_CHECKPOINT_RESTORE) {
		lacks = append(lacks, "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (to open the files that processes have mapped)")
	}
	return lacks, nil
}
