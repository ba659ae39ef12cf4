package cfi

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// systemLibraries are the builds that the tests compare with readelf; between
// them they hold compiler output for C and C++ and hand-written assembly.
var systemLibraries = []struct{ path, pkg string }{
	{"/lib64/ld-linux-x86-64.so.2", "libc6"},
	{"/lib/x86_64-linux-gnu/libc.so.6", "libc6"},
	{"/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "libstdc++6"},
	{"/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "libssl3"},
}

// section returns the bytes and the address of a section of an ELF file.
func section(t testing.TB, path, name string) ([]byte, uint64) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(name)
	if s == nil {
		t.Fatalf("%s has no %s", path, name)
	}
	b, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return b, s.Addr
}

// library parses the tables of a system library.
func library(t testing.TB, path, pkg string) *Table {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is missing: install %s", path, pkg)
	}
	data, addr := section(t, path, ".eh_frame")
	tab, err := Parse(data, addr)
	if err != nil {
		t.Fatalf("parse %s: %v", path, err)
	}
	return tab
}

// tool finds a program that a test needs.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install %s", name, pkg)
	}
	return p
}
