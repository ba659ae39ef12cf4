// Package doctor says whether this host lets its processes be patched, what
// stands in the way, and how to change it. What can be tried without harm it
// tries, on a process of its own; versions and settings explain what failed.
package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hotpatch/internal/debuginfo"
	"hotpatch/internal/engine"
	"hotpatch/internal/process"
)

// State is what became of a check.
type State string

// The states of a check.
const (
	Works   State = "works"
	Fails   State = "fails"   // processes cannot be patched, or not all
	Missing State = "missing" // something is lost, but it can be done without
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"` // what was found, or why it does not work
	Advice string `json:"advice,omitempty"` // how to change that
}

// Look checks everything. store is the folder of the records.
func Look(store string) []Check {
	out := []Check{kernel()}
	for _, t := range process.Try() {
		out = append(out, trial(t))
	}
	out = append(out, lookups(), capabilities(), others(), namespaces(), yama(), filter())
	out = append(out, modules(), records(store), packages(), debuginfod())
	return out
}

func setting(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// kernel wants 5.10: the oldest that is tested.
func kernel() Check {
	c := Check{Name: "kernel", State: Works, Detail: setting("/proc/sys/kernel/osrelease")}
	var major, minor int
	if _, err := fmt.Sscanf(c.Detail, "%d.%d", &major, &minor); err != nil || major < 5 || major == 5 && minor < 10 {
		c.State, c.Advice = Fails, "Linux 5.10 or newer is needed"
	}
	return c
}

// trial explains an attempt.
func trial(t process.Trial) Check {
	c := Check{Name: t.What, State: Works}
	if t.Err == nil {
		return c
	}
	if c.State = Missing; t.Needed {
		c.State = Fails
	}
	c.Detail = t.Err.Error()
	switch {
	case errors.Is(t.Err, process.ErrNotTried):
	case errors.Is(t.Err, exec.ErrNotFound):
		c.Advice = "install sleep(1) (coreutils): it is what things are tried with"
	case errors.Is(t.Err, unix.ENOSYS):
		c.Advice = "the kernel has no such call"
	case errors.Is(t.Err, unix.EPERM), errors.Is(t.Err, unix.EACCES):
		c.Advice = "see capabilities, yama, security modules and seccomp below"
	case errors.Is(t.Err, unix.EIO):
		c.Advice = "proc_mem.force_override= on the kernel's command line (Linux 6.12) may forbid it"
	}
	return c
}

func lookups() Check {
	c := Check{Name: "look up files in other roots: openat2(2)", State: Works}
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		c.State, c.Detail, c.Advice = Fails, err.Error(), "Linux 5.6 has it; a seccomp filter may forbid it"
		return c
	}
	unix.Close(fd)
	return c
}

// capabilities are those to reach processes of other users.
func capabilities() Check {
	c := Check{Name: "capabilities", State: Works}
	lacks, err := process.MissingCapabilities()
	if err != nil {
		c.State, c.Detail = Fails, err.Error()
	} else if len(lacks) > 0 {
		c.State, c.Detail = Fails, "missing: "+strings.Join(lacks, " and ")
		c.Advice = "run it as root, or give these capabilities"
	}
	return c
}

// others counts the processes that cannot be reached: they may be guarded by a
// user namespace or a security module even from root.
func others() Check {
	c := Check{Name: "reach all processes", State: Works}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.State, c.Detail = Fails, err.Error()
		return c
	}
	n, refused := 0, 0
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		n++
		f, err := os.OpenFile("/proc/"+e.Name()+"/mem", os.O_RDWR, 0)
		if err == nil {
			f.Close()
		} else if errors.Is(err, fs.ErrPermission) {
			if refused++; refused == 1 {
				c.Detail = err.Error()
			}
		}
	}
	if refused > 0 {
		c.State, c.Detail = Missing, fmt.Sprintf("%d of %d cannot be, the first: %s", refused, n, c.Detail)
		c.Advice = "capabilities count in the user namespace of the process that is looked into"
	}
	return c
}

// namespaces looks whether this program is in the first ones: their numbers are
// fixed (include/linux/proc_ns.h).
func namespaces() Check {
	const firstUser, firstPID = 0xeffffffd, 0xeffffffc
	c := Check{Name: "namespaces", State: Works, Detail: "those of the host"}
	var inside []string
	for _, n := range []struct {
		name  string
		first uint64
	}{{"user", firstUser}, {"pid", firstPID}} {
		var st unix.Stat_t
		if err := unix.Stat("/proc/self/ns/"+n.name, &st); err == nil && st.Ino != n.first {
			inside = append(inside, n.name)
		}
	}
	var own, first unix.Stat_t
	if unix.Stat("/proc/self/ns/mnt", &own) == nil && unix.Stat("/proc/1/ns/mnt", &first) == nil && own.Ino != first.Ino {
		inside = append(inside, "mount")
	}
	if len(inside) > 0 {
		c.State, c.Detail = Missing, "this is another namespace than the host's: "+strings.Join(inside, ", ")
		c.Advice = "run it on the host to reach all its processes: in a container only those in it are seen"
	}
	return c
}

// yama: Documentation/admin-guide/LSM/Yama.rst.
func yama() Check {
	const file = "/proc/sys/kernel/yama/ptrace_scope"
	c := Check{Name: "yama", State: Works, Detail: "ptrace_scope " + setting(file)}
	switch setting(file) {
	case "":
		c.Detail = "not there"
	case "2":
		c.Detail += ": only with CAP_SYS_PTRACE"
	case "3":
		c.State, c.Detail, c.Advice = Fails, c.Detail+": nobody may trace", "it lasts until the machine is started anew, with kernel.yama.ptrace_scope below 3 in sysctl.d"
	}
	return c
}

// filter is the seccomp mode of this program: proc_pid_status(5).
func filter() Check {
	c := Check{Name: "seccomp", State: Works, Detail: "no filter"}
	for line := range strings.Lines(setting("/proc/self/status")) {
		if v, ok := strings.CutPrefix(line, "Seccomp:"); ok && strings.TrimSpace(v) != "0" {
			c.State, c.Detail = Missing, "a filter is on this program (mode "+strings.TrimSpace(v)+")"
			c.Advice = "under systemd see SystemCallFilter=, in a container its profile; what is tried above says whether it is in the way"
		}
	}
	return c
}

// modules lists the security modules and what they do to this program.
func modules() Check {
	c := Check{Name: "security modules", State: Works, Detail: setting("/sys/kernel/security/lsm")}
	if c.Detail == "" {
		c.Detail = "not told (/sys/kernel/security is not mounted)"
	}
	if setting("/sys/fs/selinux/enforce") == "1" {
		c.Detail += "; SELinux enforces, this program is " + strings.TrimRight(setting("/proc/self/attr/current"), "\x00")
		c.Advice = "a process whose domain lacks execmem gets its new code from a file that is made for it"
	} else if p := setting("/sys/module/apparmor/parameters/enabled"); p == "Y" {
		if own := setting("/proc/self/attr/current"); own != "" && own != "unconfined" {
			c.Detail += "; AppArmor confines this program: " + own
			c.Advice = "the profile must allow ptrace"
		}
	}
	if l := setting("/sys/kernel/security/lockdown"); strings.Contains(l, "[confidentiality]") {
		c.Detail += "; lockdown: confidentiality"
	}
	return c
}

// records tries to write where it is noted what is in which process, or where
// that folder will be made.
func records(store string) Check {
	c := Check{Name: "records", State: Works, Detail: store}
	err := engine.CheckStore(store)
	at := store
	for errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		_, err = os.Stat(at)
	}
	if err != nil {
		c.State, c.Detail, c.Advice = Fails, err.Error(), "--store names another folder, of root's own"
		return c
	}
	f, err := os.CreateTemp(at, ".doctor")
	if err != nil {
		c.State, c.Detail, c.Advice = Fails, err.Error(), "mount it for writing, or name another folder with --store"
		return c
	}
	f.Close()
	os.Remove(f.Name())
	return c
}

func packages() Check {
	c := Check{Name: "package manager", State: Works, Detail: "dpkg"}
	if _, err := os.Stat("/var/lib/dpkg/status"); err == nil {
		return c
	}
	c.Detail = "rpm"
	if _, err := exec.LookPath("rpm"); err != nil {
		c.State, c.Detail = Missing, "neither dpkg nor rpm: modules are told apart by build-id alone, and each is an update of its own"
	}
	return c
}

func debuginfod() Check {
	p := debuginfo.Usual()
	c := Check{Name: "debug information", State: Works, Detail: strconv.Itoa(len(p.Servers)) + " debuginfod servers"}
	if len(p.Servers) == 0 {
		c.State, c.Detail = Missing, "no debuginfod: types are compared where debug information is installed below "+p.Root
		c.Advice = "set DEBUGINFOD_URLS (debuginfod(8))"
	}
	return c
}
