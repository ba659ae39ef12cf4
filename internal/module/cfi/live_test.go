package cfi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// liveSource stops deep in the stack: below a signal handler that interrupted
// a callback from the C library, with all kinds of frames in between.
const liveSource = `
#include <signal.h>
#include <stdlib.h>
#include <string.h>
volatile int sink;
__attribute__((noinline)) void stop_here(int x) { sink += x; }
__attribute__((noinline)) void handler(int s) { stop_here(s); sink++; }
__attribute__((noinline, optimize("no-omit-frame-pointer"))) int variable(int n) {
	char *p = alloca(n * 3);
	memset(p, n, n);
	raise(SIGUSR1);
	return p[n / 2];
}
int compare(const void *a, const void *b) { return variable(*(int *)a + 40) - *(int *)b; }
int main(int n, char **v) {
	int a[] = {n, n + 1};
	signal(SIGUSR1, handler);
	qsort(a, 2, sizeof a[0], compare);
	return a[0] - a[1];
}
`

// liveScript prints, in gdb, what it finds in every frame, the mappings, and the stack.
const liveScript = `
set confirm off
set debuginfod enabled off
handle SIGUSR1 nostop noprint pass
set backtrace past-main on
set backtrace past-entry on
break stop_here
run
python
f = gdb.newest_frame()
while f:
    if f.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME): # of debug information only
        print("frame", *["%x" % (int(f.read_register(r)) & 0xffffffffffffffff) for r in ("rip", "rsp", "rbx", "rbp", "r12", "r13", "r14", "r15")])
    f = f.older()
pid = gdb.selected_inferior().pid
for line in open("/proc/%d/maps" % pid):
    print("map", line.strip())
    if "[stack]" in line:
        end = int(line.split()[0].split("-")[1], 16)
sp = int(gdb.newest_frame().read_register("rsp")) & 0xffffffffffffffff
print("stack %x" % sp, bytes(gdb.selected_inferior().read_memory(sp, end - sp)).hex())
end
kill
`

// A stopped process, as gdb tells of it.
type stopped struct {
	frames []Regs
	maps   []mapping
	stack  []byte
	sp     uint64
}

type mapping struct {
	start, end, off uint64
	path            string
}

var frameRegisters = []int{RA, RSP, 3, RBP, 12, 13, 14, 15}

func stopInGDB(t *testing.T) stopped {
	t.Helper()
	dir := t.TempDir()
	src, bin, script := filepath.Join(dir, "live.c"), filepath.Join(dir, "live"), filepath.Join(dir, "script")
	for name, text := range map[string]string{src: liveSource, script: liveScript} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "gcc", "gcc", "-O2", "-g0", "-o", bin, src)
	out := run(t, "gdb", "gdb", "-nx", "-batch", "-x", script, bin)
	var s stopped
	sc := bufio.NewScanner(strings.NewReader(out))
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		switch {
		case len(fields) == 9 && fields[0] == "frame":
			var r Regs
			for i, reg := range frameRegisters {
				r.Set(reg, hex(t, fields[1+i]))
			}
			s.frames = append(s.frames, r)
		case len(fields) == 7 && fields[0] == "map":
			start, end, _ := strings.Cut(fields[1], "-")
			s.maps = append(s.maps, mapping{hex(t, start), hex(t, end), hex(t, fields[3]), fields[6]})
		case len(fields) == 3 && fields[0] == "stack":
			s.sp = hex(t, fields[1])
			if _, err := fmt.Sscanf(fields[2], "%x", &s.stack); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(s.frames) == 0 || len(s.stack) == 0 {
		t.Fatalf("gdb says %q", out)
	}
	return s
}

func (s *stopped) read(addr uint64) (uint64, error) {
	if addr < s.sp || addr-s.sp+8 > uint64(len(s.stack)) {
		return 0, fmt.Errorf("%#x is not on the stack", addr)
	}
	return binary.LittleEndian.Uint64(s.stack[addr-s.sp:]), nil
}

// find returns the FDE for an address in the process and what to subtract from
// it; the modules are position-independent, so their first mapping is their base.
func (s *stopped) find(t *testing.T, pc uint64, tables map[string]*Table) (*FDE, uint64) {
	t.Helper()
	base := map[string]uint64{}
	for _, m := range s.maps {
		if _, ok := base[m.path]; !ok {
			base[m.path] = m.start - m.off
		}
		if pc < m.start || pc >= m.end {
			continue
		}
		if tables[m.path] == nil {
			tables[m.path] = library(t, m.path, m.path)
		}
		return tables[m.path].Find(pc - base[m.path]), base[m.path]
	}
	return nil, 0
}

// Every register of every frame up to the outermost is as gdb finds it.
func TestStepAgainstGDB(t *testing.T) {
	s := stopInGDB(t)
	tables := map[string]*Table{}
	regs, exact := s.frames[0], true
	signals := 0
	for i, want := range s.frames {
		for _, r := range frameRegisters {
			v, ok := regs.get(uint64(r))
			if !ok || v != want.R[r] {
				t.Errorf("frame %d: register %d is %#x (known %v), want %#x", i, r, v, ok, want.R[r])
			}
		}
		pc := regs.R[RA]
		if !exact {
			pc--
		}
		f, base := s.find(t, pc, tables)
		if f == nil {
			t.Fatalf("frame %d: no FDE at %#x", i, pc)
		}
		row, err := f.Row(pc - base)
		if err != nil {
			t.Fatal(err)
		}
		regs, err = row.Step(&regs, s.read)
		if i == len(s.frames)-1 {
			if !errors.Is(err, ErrOutermost) {
				t.Errorf("after the last frame: got %v, want %v", err, ErrOutermost)
			}
			break
		}
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if exact = f.CIE.Signal; exact {
			signals++
		}
	}
	if len(s.frames) < 9 || signals != 1 {
		t.Errorf("%d frames, %d of a signal", len(s.frames), signals)
	}
	t.Logf("%d frames", len(s.frames))
}
