// Package host finds out what runs on this machine: the processes, the
// modules that they execute, whether the file now at a module's path is
// another build than the one mapped, and which package and version each
// belongs to. It only looks; changing processes is left to others.
//
// Everything it reads may come from someone hostile: names, maps, files,
// directories in containers. Files are opened inside the process's own root
// and only regular ones are read. What cannot be found out stays empty, with
// the reason beside it.
package host

import (
	"fmt"
	"time"

	"hotpatch/internal/module"
)

// State says how a mapped module stands to the file on disk.
type State string

// The states of a module.
const (
	Current  State = "current"  // the build on disk is the one that runs
	Outdated State = "outdated" // another build is on disk
	Gone     State = "gone"     // no file on disk takes its place
	Unknown  State = "unknown"  // it could not be found out; Reason says why
)

// A Proc is one process that executes files.
type Proc struct {
	PID  int `json:"pid"`
	PPID int `json:"ppid"`
	// Start is when it was made, in clock ticks since boot (proc(5), stat
	// field 22). With PID and the boot it names the process for good.
	Start   uint64    `json:"start"`
	Started time.Time `json:"started"` // the same as wall-clock time, to about 10 ms
	Comm    string    `json:"comm"`
	Exe     string    `json:"exe"` // path in its root; empty when the kernel does not tell
	UID     uint32    `json:"uid"` // effective
	// Root is its root directory as seen from here, "/" when that is the root
	// of its mount namespace.
	Root string `json:"root"`
	// MountNS is the inode number of its mount namespace, OtherNS says that it
	// is not the caller's.
	MountNS uint64 `json:"mount_ns"`
	OtherNS bool   `json:"other_ns"`
	// Container is a hint taken from its control group, empty when there is none.
	Container string   `json:"container,omitempty"`
	Modules   []Module `json:"modules"` // in the order of their addresses
	userNS    uint64   // inode number of its user namespace
	// Err says why Modules is empty; a process that ended meanwhile is left out instead.
	Err error `json:"-"`
}

// A Module is an ELF file that a process has mapped executable.
type Module struct {
	// Path is where it was mapped from, in the process's root, or with
	// Outside in the root of its mount namespace: a process keeps what it
	// mapped before it changed its root.
	Path    string `json:"path"`
	Outside bool   `json:"outside,omitempty"`
	// Map is the name of its first executable mapping in /proc/PID/map_files.
	Map     string `json:"map"`
	Deleted bool   `json:"deleted"` // the mapped file has lost its name
	Dev     uint64 `json:"dev"`     // of the mapped file, as fstat says: the numbers in maps
	Ino     uint64 `json:"ino"`     // are others on btrfs and overlayfs

	State  State  `json:"state"`
	Reason string `json:"reason"`
	// OnDisk is the file that takes its place: at the same path, or for one
	// that is gone what its soname leads to. Empty when Gone.
	OnDisk string `json:"on_disk,omitempty"`
	// Running and Fixed are the builds mapped and on disk. They are zero for
	// a current module whose file is the very one mapped, unless asked for.
	Running module.Identity `json:"running,omitzero"`
	Fixed   module.Identity `json:"fixed,omitzero"`

	// Package owns OnDisk. RunningVersion is its version that the mapped file
	// belongs to, or empty; VersionReason says how that is known or why not.
	Package        Package `json:"package,omitzero"`
	RunningVersion string  `json:"running_version,omitempty"`
	VersionReason  string  `json:"version_reason,omitempty"`

	root     rootKey
	found    string    // the path that OnDisk was found at
	replaced time.Time // when the mapped file lost its last name, zero when unknown
}

// A Pair names two files for as long as a scan: the one that is mapped and the
// one that takes its place. An Identity does not say what lies outside of the
// loaded segments, as symbols do, so that whoever has two files with the
// identities of others could otherwise have a say in what becomes of those.
type Pair struct {
	dev, ino       uint64
	userNS         uint64
	root           rootKey
	path, found    string
	running, fixed module.Identity
}

// Pair is of a module of the process. Where it is the same, the same file is
// mapped, and replaced by the same file of the same root, and the same owners
// are trusted.
func (p *Proc) Pair(m *Module) Pair {
	return Pair{m.Dev, m.Ino, p.userNS, m.root, m.Path, m.found, m.Running, m.Fixed}
}

// A Package is an installed package.
type Package struct {
	Manager string `json:"manager"` // dpkg or rpm
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Source  string `json:"source"` // source package; of rpm, its file name
	// SourceVersion is empty for rpm.
	SourceVersion string `json:"source_version,omitempty"`
}

// An UntrustedError refuses a file that others than root could have written,
// or led to, or that is not the one that the package manager installed.
type UntrustedError struct {
	Path string // of the file, or of a directory or link on the way to it
	Why  string
}

func (e *UntrustedError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Why) }

// A ChangedError says that what was scanned is not what is there now.
type ChangedError struct {
	PID  int
	What string
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("process %d: %s since it was scanned", e.PID, e.What)
}
