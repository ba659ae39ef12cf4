package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"hotpatch/internal/engine"
)

// engine opens the records of what is in which process.
func (a *app) engine() (*engine.Engine, error) {
	e, err := engine.New(engine.Options{Store: a.store}, nil)
	if need := missingRights(); errors.Is(err, fs.ErrPermission) && need != "" {
		err = fmt.Errorf("%w: %s", err, need)
	}
	return e, err
}

// missingRights names the capabilities that this program lacks to look into
// other users' processes and to patch them; empty when it has them all.
func missingRights() string {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return ""
	}
	has := func(c uint) bool { return data[c/32].Effective>>(c%32)&1 != 0 }
	var lacks []string
	if !has(unix.CAP_SYS_PTRACE) {
		lacks = append(lacks, "CAP_SYS_PTRACE (to trace other users' processes)")
	}
	// proc_pid_map_files(5): since Linux 5.9 either of the two.
	if !has(unix.CAP_SYS_ADMIN) && !has(unix.CAP_CHECKPOINT_RESTORE) {
		lacks = append(lacks, "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN (to open the files that processes have mapped)")
	}
	if len(lacks) == 0 {
		return ""
	}
	return fmt.Sprintf("this needs %s: run it as root, or give these capabilities", strings.Join(lacks, " and "))
}
