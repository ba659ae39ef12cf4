// Package live holds the tests that patch real programs: each compiles a
// target from testdata in two versions, strips them, starts the old one,
// patches it with what the builder made of the two files, and looks from
// outside whether it answers like the fixed build, after a rollback like the
// old one, and whether its code is then byte for byte what it was.
package live

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hotpatch/internal/diff"
	"hotpatch/internal/engine"
	"hotpatch/internal/patch"
	"hotpatch/internal/plan"
)

// symbolExt is what the name of a build with symbols ends in.
const symbolExt = ".sym"

// keepRelocations has the linker keep them.
const keepRelocations = "-Wl,--emit-relocs"

// patience is how long a target may take to answer.
const patience = 40 * time.Second

// form is how the code that changes gets into the process.
type form string

const (
	program form = "program"
	linked  form = "linked" // a library named in the program's DT_NEEDED
	loaded  form = "loaded" // a library that the program loads with dlopen
	static  form = "static" // a static-pie program
	placed  form = "placed" // a program at a fixed address that keeps its relocations
)

var (
	everywhere = []form{program, linked, loaded, placed}
	shared     = []form{program, linked, loaded} // position-independent
)

// compilers bounds how many compilers run at once.
var compilers = make(chan struct{}, runtime.NumCPU())

// compile builds one file as Debian would, and returns its path. What is to be
// patched is stripped, and its symbols are kept beside it.
func compile(t *testing.T, out string, flags ...string) string {
	t.Helper()
	compilers <- struct{}{}
	defer func() { <-compilers }()
	cc := "gcc"
	for _, f := range flags {
		switch {
		case strings.HasSuffix(f, ".cc"):
			cc = "g++"
		case f == "-DMUSL":
			cc = "musl-gcc"
		case f == "-DCLANG":
			cc = "clang"
		}
	}
	args := []string{
		"-O2", "-fstack-protector-strong", "-Wformat", "-Werror=format-security", "-D_FORTIFY_SOURCE=2",
		"-D_GNU_SOURCE", "-pthread", "-w", "-Wl,-z,relro", "-Wl,--build-id=sha1", "-o", out + symbolExt,
	}
	strip := []string{"strip", "-o", out, out + symbolExt}
	if slices.Contains(flags, keepRelocations) {
		strip = append(strip, "--strip-unneeded")
	}
	for _, c := range [][]string{append([]string{cc}, append(args, flags...)...), strip} {
		if b, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("run %s: %v\n%s", strings.Join(c, " "), err, b)
		}
	}
	return out
}

// module is one module of a target in both builds.
type module struct {
	old, fixed string
	form       form
}

// build compiles a source in both builds.
func build(t *testing.T, source string, f form, flags ...string) module {
	t.Helper()
	m := module{form: f}
	name := "target"
	switch f {
	case program:
		flags = append([]string{"testdata/" + source, "-fPIE", "-pie"}, flags...)
	case placed:
		flags = append([]string{"testdata/" + source, "-fno-pie", "-no-pie", keepRelocations}, flags...)
	case static:
		flags = append([]string{"testdata/" + source, "-static-pie", "-fPIE"}, flags...)
	default:
		name = "libcase.so"
		flags = append([]string{"testdata/" + source, "-DLIB", "-fPIC", "-shared", "-Wl,-soname,libcase.so"}, flags...)
	}
	var wg sync.WaitGroup
	for _, b := range []struct {
		path *string
		dir  string
		def  string
	}{{&m.old, "old", "-DOLD"}, {&m.fixed, "fixed", "-DFIXED"}} {
		dir := filepath.Join(t.TempDir(), b.dir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		*b.path = filepath.Join(dir, name)
		wg.Add(1)
		go func() {
			defer wg.Done()
			compile(t, *b.path, append([]string{b.def}, flags...)...)
		}()
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return m
}

// named is the module with its symbols.
func (m module) named() module {
	m.old, m.fixed = m.old+symbolExt, m.fixed+symbolExt
	return m
}

// unstrip puts the builds with symbols into the place of those without.
func (m module) unstrip(t *testing.T) {
	t.Helper()
	for _, p := range []string{m.old, m.fixed} {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(p+symbolExt, p); err != nil {
			t.Fatal(err)
		}
	}
}

// read is what the two files hold.
func (m module) read(t *testing.T) (old, fixed []byte) {
	t.Helper()
	var data [2][]byte
	for i, p := range []string{m.old, m.fixed} {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		data[i] = b
	}
	return data[0], data[1]
}

// compare makes the patch from the files.
func (m module) compare(t *testing.T) *plan.Build {
	t.Helper()
	old, fixed := m.read(t)
	b, err := plan.Pair(old, fixed, m.old, m.fixed, "test")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// patch makes the patch, which there must be.
func (m module) patch(t *testing.T) *patch.Patch {
	t.Helper()
	b := m.compare(t)
	if b.Verdict != diff.Patchable {
		t.Fatalf("%s, want patchable: %v", b.Verdict, b.Reasons)
	}
	return b.Patch
}

// symbols are the functions of the unstripped copy by address.
func symbols(t *testing.T, path string) map[uint64]string {
	t.Helper()
	f, err := elf.Open(strings.TrimSuffix(path, symbolExt) + symbolExt)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[uint64]string)
	for _, s := range syms {
		if t := elf.ST_TYPE(s.Info); (t == elf.STT_FUNC || t == elf.STT_GNU_IFUNC) && s.Section != elf.SHN_UNDEF {
			if old := out[s.Value]; old == "" || s.Name < old {
				out[s.Value] = s.Name
			}
		}
	}
	return out
}

// functions names the functions of one kind in a patch, sorted.
func (m module) functions(t *testing.T, p *patch.Patch, kind patch.Change) []string {
	t.Helper()
	names := symbols(t, m.fixed)
	out := []string{}
	for _, f := range p.Functions {
		if f.Change == kind {
			out = append(out, names[uint64(f.Fixed[0].Start)])
		}
	}
	slices.Sort(out)
	return out
}

var hosts struct {
	once sync.Once
	dir  string
	err  error
}

// host is the program that uses the case's library.
func host(t *testing.T, f form) string {
	t.Helper()
	hosts.once.Do(func() {
		if hosts.dir, hosts.err = os.MkdirTemp("", "hotpatch-live"); hosts.err != nil {
			return
		}
		d := hosts.dir
		compile(t, filepath.Join(d, "libcase.so"), "testdata/stub.c", "-fPIC", "-shared", "-Wl,-soname,libcase.so")
		compile(t, filepath.Join(d, string(linked)), "testdata/host.c", "-fPIE", "-pie", filepath.Join(d, "libcase.so"))
		compile(t, filepath.Join(d, string(loaded)), "testdata/host.c", "-fPIE", "-pie", "-rdynamic", "-DLOADED")
	})
	if hosts.err != nil {
		t.Fatal(hosts.err)
	}
	return filepath.Join(hosts.dir, string(f))
}

func TestMain(m *testing.M) {
	code := m.Run()
	if hosts.dir != "" {
		os.RemoveAll(hosts.dir)
	}
	os.Exit(code)
}

// target is a running process that answers lines.
type target struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

// start runs the old build.
func (m module) start(t *testing.T) *target {
	t.Helper()
	if m.form == linked || m.form == loaded {
		return start(t, "LD_LIBRARY_PATH="+filepath.Dir(m.old), host(t, m.form))
	}
	return start(t, "", m.old)
}

func start(t *testing.T, env string, argv ...string) *target {
	t.Helper()
	return launch(t, env, nil, argv...)
}

// launch is start with attributes of the process.
func launch(t *testing.T, env string, attr *syscall.SysProcAttr, argv ...string) *target {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to trace processes")
	}
	g := &target{t: t, cmd: exec.Command(argv[0], argv[1:]...), lines: make(chan string, 16)}
	g.cmd.Stderr = os.Stderr
	g.cmd.SysProcAttr = attr
	g.cmd.Env = append([]string{"FIRST=1", "LC_ALL=C"}, env)
	in, err := g.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g.in, g.cmd.Stdout = in, w
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(g.lines)
		defer out.Close()
		for s := bufio.NewScanner(out); s.Scan(); {
			g.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
	})
	if s := g.line(); s != "ready" {
		t.Fatalf("the target said %q, want ready", s)
	}
	return g
}

func (g *target) pid() int { return g.cmd.Process.Pid }

func (g *target) line() string {
	g.t.Helper()
	select {
	case s, ok := <-g.lines:
		if !ok {
			err := g.cmd.Wait()
			g.t.Fatalf("the target ended: %v", err)
		}
		return s
	case <-time.After(patience):
		g.t.Fatalf("no answer from the target within %v", patience)
	}
	return ""
}

func (g *target) say(cmd string) {
	g.t.Helper()
	if _, err := io.WriteString(g.in, cmd+"\n"); err != nil {
		g.t.Fatalf("write to the target: %v", err)
	}
}

func (g *target) ask(cmd string) string {
	g.t.Helper()
	g.say(cmd)
	return g.line()
}

func (g *target) want(cmd, want string) {
	g.t.Helper()
	if got := g.ask(cmd); got != want {
		g.t.Errorf("%s: got %q, want %q", cmd, got, want)
	}
}

func (g *target) number(cmd string) int {
	g.t.Helper()
	s := g.ask(cmd)
	n, err := strconv.Atoi(s)
	if err != nil {
		g.t.Fatalf("%s: %q is no number", cmd, s)
	}
	return n
}

// text is all executable memory of a process, by start address.
type text map[uint64][]byte

// readText reads every r-x mapping from outside.
func readText(t *testing.T, pid int) text {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	out := make(text)
	for line := range strings.Lines(string(maps)) {
		var lo, hi uint64
		var prot string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &lo, &hi, &prot); err != nil || prot[2] != 'x' || strings.Contains(line, "[vsyscall]") {
			continue
		}
		b := make([]byte, hi-lo)
		if _, err := mem.ReadAt(b, int64(lo)); err != nil {
			t.Fatalf("read code of the target: %v", err)
		}
		out[lo] = b
	}
	if len(out) < 2 {
		t.Fatalf("only %d executable mappings found", len(out))
	}
	return out
}

// without leaves out what is mapped from a file, told by the end of its path.
func (x text) without(t *testing.T, pid int, file string) text {
	t.Helper()
	out := maps.Clone(x)
	for line := range strings.Lines(mappings(t, pid)) {
		var at uint64
		if _, err := fmt.Sscanf(line, "%x-", &at); err == nil && strings.HasSuffix(strings.TrimSpace(line), file) {
			delete(out, at)
		}
	}
	if len(out) == len(x) {
		t.Errorf("no code of %s is mapped", file)
	}
	return out
}

// sameText fails when a byte of what was executable before differs now.
func sameText(t *testing.T, pid int, before text) {
	t.Helper()
	now := readText(t, pid)
	for at, was := range before {
		is := now[at]
		if bytes.Equal(was, is) {
			continue
		}
		i := 0
		for i < len(is) && was[i] == is[i] {
			i++
		}
		t.Errorf("code at %#x differs from before, at %#x (%d bytes were mapped, now %d)", at, at+uint64(i), len(was), len(is))
	}
}

// mappings are the lines of maps without those that come and go by themselves.
func mappings(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// newEngine is an engine with a record of its own. Several tests run at once
// on few processors, so one stop may take long.
func newEngine(t *testing.T, o engine.Options) *engine.Engine {
	t.Helper()
	return watched(t, o, nil)
}

func watched(t *testing.T, o engine.Options, report func(engine.Event)) *engine.Engine {
	t.Helper()
	if o.Store == "" {
		o.Store = filepath.Join(t.TempDir(), "store")
	}
	if o.Budget == 0 {
		o.Budget = 200 * time.Millisecond
	}
	if o.Deadline == 0 {
		o.Deadline = 20 * time.Second
	}
	e, err := engine.New(o, report)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func wantState(t *testing.T, r engine.Result, want engine.State) {
	t.Helper()
	if r.State != want {
		t.Fatalf("the engine says %s, want %s: %+v", r.State, want, r.Reasons)
	}
}

func hasSection(t *testing.T, path, name string) bool {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Section(name) != nil
}

// offset is where an address of a build lies in its file.
func offset(t *testing.T, path string, a uint64) uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && a-p.Vaddr < p.Filesz {
			return a - p.Vaddr + p.Off
		}
	}
	t.Fatalf("%#x is in no segment of %s", a, path)
	return 0
}
