package process

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOnlyRegularFiles: what is mapped from a device is not opened.
func TestOnlyRegularFiles(t *testing.T) {
	zero, err := os.OpenFile("/dev/zero", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	b, err := unix.Mmap(int(zero.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b) //nolint:errcheck // the test is over
	p, err := Open(os.Getpid(), nil)
	if err != nil {
		t.Skipf("needs the right to trace: %v", err)
	}
	defer p.Close()
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, m := range maps {
		if m.Path != "/dev/zero" {
			continue
		}
		seen++
		if f, err := p.OpenMapped(m); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("opened %v, %v", f, err)
		}
	}
	if seen == 0 {
		t.Error("/dev/zero is not among the mappings")
	}
}

// TestTooMuchText: a file below /proc/PID without an end is not read to its end.
func TestTooMuchText(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/maps", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(dir+"/maps", 1<<40); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := (&Process{holder: holder{dir: fd}}).Maps(); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// TestEndlessHeaders: modules whose headers say that they go on for ever do not
// take in all that comes after them, over and over.
func TestEndlessHeaders(t *testing.T) {
	const n = 30000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%x-%x r-xp 00000000 00:01 7 /lib/x\n", 0x10000+i*0x1000, 0x11000+i*0x1000)
	}
	maps, err := parseMaps([]byte(text.String()))
	if err != nil || len(maps) != n {
		t.Fatalf("%d mappings, %v", len(maps), err)
	}
	// A sparse file stands for the memory: every page begins with such headers.
	mem, err := os.Create(t.TempDir() + "/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	head := make([]byte, 128)
	copy(head, "\x7fELF\x02\x01\x01")
	head[32], head[54], head[56] = 64, 56, 1    // e_phoff, e_phentsize, e_phnum
	head[64], head[64+4], head[64+46] = 1, 5, 1 // PT_LOAD, r-x, p_memsz 1<<48
	for i := range n {
		if _, err := mem.WriteAt(head, int64(0x10000+i*0x1000)); err != nil {
			t.Fatal(err)
		}
	}
	mods := (&Process{mem: mem, memFD: int(mem.Fd())}).ModulesOf(maps)
	if len(mods) == 0 {
		t.Fatal("no modules: the test is broken")
	}
	for i := range mods {
		if len(mods[i].Maps) > maxPieces {
			t.Fatalf("module %d has %d mappings", i, len(mods[i].Maps))
		}
	}
}
