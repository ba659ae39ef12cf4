package live

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
)

// A place is an environment that a program runs in, and what becomes of a
// patch there: it goes in and out, or it is refused and changes nothing.
type place struct {
	name    string
	form    form     // default program
	flags   []string // of the compiler
	does    []string // what the program does to itself first: testdata/places.c
	start   func(*testing.T, module, ...string) *target
	occupy  func(*testing.T, *target, module, *patch.Patch) (leave func()) // once it runs
	opts    engine.Options
	refused engine.Code
	names   []string // what the refusal has to name
}

// what value() of places.c answers
const (
	placeOld   = "10 6"
	placeFixed = "200 7"
)

// private are all namespaces but that of cgroups and of time.
const private = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

var places = []place{
	{name: "namespaces", start: withAttr(func(*testing.T, module) *syscall.SysProcAttr {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}}
		return &syscall.SysProcAttr{Cloneflags: private, UidMappings: ids, GidMappings: ids}
	})},
	{name: "first-of-pid-namespace", start: withAttr(func(*testing.T, module) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	})},
	{name: "chroot", start: inRoot},
	{name: "empty-chroot", form: static, start: emptied},
	{name: "overlayfs", start: onOverlay("upper")},
	{name: "overlayfs-lower", start: onOverlay("lower")},
	{name: "seccomp-kills", does: []string{"seccomp"}},
	{name: "mdwe", does: []string{"mdwe"}},
	{name: "not-dumpable", does: []string{"no-dump"}},
	{name: "no-new-privileges", does: []string{"nobody", "no-new-privileges"}},
	{name: "setuid", does: []string{"euid"}, start: setuid},
	{name: "all-memory-locked", does: []string{"lock 1048576", "nobody"}},
	{name: "all-memory-locked-to-its-limit", does: []string{"lock 0", "nobody"}, refused: engine.Kernel, names: []string{"map overlay", "resource temporarily unavailable"}},
	{name: "address-space-at-its-limit", does: []string{"size 0"}, refused: engine.Kernel, names: []string{"map overlay", "cannot allocate memory"}},
	{name: "no-address-space-near", does: []string{"fill"}, refused: engine.NoGap, names: []string{"2 GiB"}},
	{name: "mapped-twice-by-hand", does: []string{"twice"}, refused: engine.NoModule, names: []string{"more than once"}},
	{name: "code-copied", does: []string{"copy 1"}},
	{name: "code-copied-in-part", form: static, does: []string{"copy 0"}},
	{name: "swapcontext", flags: []string{"-DCONTEXTS"}, does: []string{"contexts"}, refused: engine.StackSwitch, names: []string{"context in target", "a stack that ends at"}},
	{name: "swapcontext-unused", flags: []string{"-DCONTEXTS"}},
	{name: "gdb", occupy: debugged, refused: engine.TracedAlready, names: []string{"gdb"}},
	{name: "strace", occupy: straced, refused: engine.TracedAlready, names: []string{"strace"}},
	{name: "uprobe", start: copied, occupy: probed, refused: engine.EntryChanged, names: []string{"expected", "found cc"}},
	{name: "musl", flags: musl},
	{name: "musl-static", form: static, flags: musl},
}

var musl = []string{"-DMUSL", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"} // for the kernel's headers

// TestPlaces patches a program in each place.
func TestPlaces(t *testing.T) {
	type variant struct {
		m module
		p *patch.Patch
	}
	built := map[string]variant{}
	for _, c := range places {
		if c.form == "" {
			c.form = program
		}
		key := fmt.Sprint(c.form, c.flags)
		v, ok := built[key]
		if !ok {
			v.m = build(t, "places.c", c.form, c.flags...)
			v.p = v.m.patch(t)
			built[key] = v
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, v.m, v.p)
		})
	}
}

func (c *place) run(t *testing.T, m module, p *patch.Patch) {
	if c.start == nil {
		c.start = func(t *testing.T, m module, args ...string) *target {
			return start(t, "", append([]string{m.old}, args...)...)
		}
	}
	g := c.start(t, m, c.does...)
	g.want("value", placeOld)
	before := readText(t, g.pid())
	leave := func() {}
	if c.occupy != nil {
		leave = c.occupy(t, g, m, p)
	}
	e := newEngine(t, c.opts)
	if c.refused != "" {
		maps, text := mappings(t, g.pid()), readText(t, g.pid())
		r := e.Apply(g.pid(), []*patch.Patch{p})
		refusal(t, g, text, r, c.refused, c.names...)
		if now := mappings(t, g.pid()); now != maps {
			t.Errorf("mappings changed from\n%s\nto\n%s", maps, now)
		}
		result(t, r)
		leave()
		g.want("value", placeOld)
		if c.occupy == nil {
			return
		}
	}
	for range 2 {
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, engine.Patched)
		g.want("value", placeFixed)
		wantState(t, e.Verify(g.pid()), engine.Verified)
		back := e.Remove(g.pid(), nil)
		wantState(t, back, engine.Removed)
		g.want("value", placeOld)
		sameText(t, g.pid(), before)
		if c.refused == "" {
			result(t, r, back)
		}
	}
}

// numbers are those that differ from run to run: addresses and pids.
var numbers = regexp.MustCompile(`0x[0-9a-f]{6,}|\b[0-9]{3,}\b`)

// result tells test/cases what came out.
func result(t *testing.T, rs ...engine.Result) {
	t.Helper()
	var s []string
	for _, r := range rs {
		s = append(s, string(r.State))
		for _, x := range r.Reasons {
			s = append(s, "`"+string(x.Code)+"`: "+numbers.ReplaceAllString(x.Detail, "N"))
		}
	}
	t.Attr("result", strings.ReplaceAll(strings.Join(s, ", "), "\n", "; "))
}

// withAttr starts the program with attributes.
func withAttr(attr func(*testing.T, module) *syscall.SysProcAttr) func(*testing.T, module, ...string) *target {
	return func(t *testing.T, m module, args ...string) *target {
		return launch(t, "", attr(t, m), append([]string{m.old}, args...)...)
	}
}

// copyFile copies a file that tests are going to change.
func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to+".new", b, 0o755)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// libraries copies what a program loads to the same paths below a directory.
func libraries(t *testing.T, program, root string) {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(out)) {
		if strings.HasPrefix(f, "/") {
			copyFile(t, f, filepath.Join(root, f))
		}
	}
}

// inRoot runs the program with nothing but its files, and unlinks them.
func inRoot(t *testing.T, m module, args ...string) *target {
	root := t.TempDir()
	libraries(t, m.old, root)
	copyFile(t, m.old, filepath.Join(root, "target"))
	g := launch(t, "", &syscall.SysProcAttr{Chroot: root}, append([]string{"/target"}, args...)...)
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	return g
}

// emptied has the program go to an empty root directory.
func emptied(t *testing.T, m module, args ...string) *target {
	return start(t, "", append([]string{m.old, "chroot " + t.TempDir()}, args...)...)
}

// setuid runs the program for another user with the rights of its owner.
func setuid(t *testing.T, m module, args ...string) *target {
	dir, err := os.MkdirTemp("", "hotpatch-setuid") // that the other user can enter
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o755)
	}
	path := copyFile(t, m.old, filepath.Join(dir, "target"))
	if err == nil {
		err = os.Chmod(path, 0o755|os.ModeSetuid)
	}
	if err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return launch(t, "", nobody, append([]string{path}, args...)...)
}

// copied runs a file that no other test has.
func copied(t *testing.T, m module, args ...string) *target {
	return start(t, "", append([]string{copyFile(t, m.old, filepath.Join(t.TempDir(), "target"))}, args...)...)
}

// onOverlay runs the program in a container's root directory: a mount of
// overlayfs. Then the update comes, from inside, or to the image below.
func onOverlay(layer string) func(*testing.T, module, ...string) *target {
	return func(t *testing.T, m module, args ...string) *target {
		dir := t.TempDir()
		if err := syscall.Mount("none", dir, "tmpfs", 0, ""); err != nil { // that of the test may be an overlay itself
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		for _, d := range []string{"lower", "upper", "work", "root"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		lower, root := filepath.Join(dir, "lower"), filepath.Join(dir, "root")
		copyFile(t, m.old, filepath.Join(lower, "target"))
		libraries(t, m.old, lower)
		opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
		if err := syscall.Mount("overlay", root, "overlay", 0, opts); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
		g := launch(t, "", &syscall.SysProcAttr{Chroot: root, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}, append([]string{"/target"}, args...)...)
		to := root
		if layer == "lower" {
			to = lower
		}
		copyFile(t, m.fixed, filepath.Join(to, "target"))
		return g
	}
}

// attached waits until a tool that was started traces the target, and returns
// what ends it.
func attached(t *testing.T, g *target, argv ...string) func() {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("%v: the test needs %s", err, argv[0])
	}
	leave := func() {
		in.Close() // gdb detaches at the end of its commands
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
	}
	t.Cleanup(leave)
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.pid()))
		if err != nil || time.Now().After(end) {
			t.Fatalf("%s never traces the target: %v", argv[0], err)
		}
		if strings.Contains(string(b), fmt.Sprintf("TracerPid:\t%d\n", cmd.Process.Pid)) {
			return leave
		}
	}
}

func debugged(t *testing.T, g *target, _ module, _ *patch.Patch) func() {
	return attached(t, g, "gdb", "-nx", "-q", "-p", fmt.Sprint(g.pid()))
}

func straced(t *testing.T, g *target, _ module, _ *patch.Patch) func() {
	return attached(t, g, "strace", "-f", "-q", "-o", "/dev/null", "-p", fmt.Sprint(g.pid()))
}

// probed sets a uprobe on the entry of a function that changes.
func probed(t *testing.T, g *target, m module, p *patch.Patch) func() {
	dir := "/sys/kernel/tracing/"
	if _, err := os.Stat(dir + "uprobe_events"); err != nil { // nobody has mounted it
		dir = t.TempDir() + "/"
		if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
			t.Skipf("needs a kernel with tracefs: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
		if _, err := os.Stat(dir + "uprobe_events"); err != nil {
			t.Skipf("needs a kernel with uprobe events: %v", err)
		}
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.pid()))
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("hotpatch%d/p", g.pid())
	tell := func(file, what string) {
		t.Helper()
		f, err := os.OpenFile(dir+file, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString(what)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tell("uprobe_events", fmt.Sprintf("p:%s %s:%#x", name, exe, offset(t, m.old, uint64(p.Steers[0].At))))
	tell("events/"+name+"/enable", "1")
	leave := func() {
		tell("events/"+name+"/enable", "0")
		tell("uprobe_events", "-:"+name)
	}
	done := false
	t.Cleanup(func() {
		if !done {
			leave()
		}
	})
	return func() { leave(); done = true }
}
