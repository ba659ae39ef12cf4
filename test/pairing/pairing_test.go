package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const program = `
#include <stdio.h>
static int CALLS, OTHER;
static const char *const words[] = {"one", "two", "three"};
__attribute__((noinline)) static int FIRST(int n) { CALLS += n; return printf("%d %s\n", CALLS, words[n & 1]); }
__attribute__((noinline)) static int SECOND(int n) { OTHER += n * 3; return puts(words[n & 1]) + OTHER; }
int main(int argc, char **argv) { return FIRST(argc) + SECOND(argc) + EXTRA; }
`

func compileWith(t *testing.T, name string, swap map[string]string) string {
	t.Helper()
	text := program
	for _, word := range []string{"FIRST", "SECOND", "CALLS", "OTHER", "EXTRA"} {
		to := strings.ToLower(word)
		if swap[word] != "" {
			to = swap[word]
		}
		text = strings.ReplaceAll(text, word, to)
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "prog.c")
	if err := os.WriteFile(src, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	cmd := exec.Command("gcc", "-g", "-O2", "-fPIE", "-pie", "-Wl,--build-id", "-Wl,--emit-relocs", "-o", out, src)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc (apt install gcc libc6-dev): %v\n%s", err, b)
	}
	return out
}

func TestCompare(t *testing.T) {
	old := compileWith(t, "old", map[string]string{"EXTRA": "1"})
	for _, c := range []struct {
		name            string
		swap            map[string]string
		functions, data int // wrong
	}{
		{"a fix", map[string]string{"EXTRA": "2"}, 0, 0},
		{"functions that exchange their names", map[string]string{"EXTRA": "2", "FIRST": "second", "SECOND": "first"}, 2, 0},
		{"variables that exchange their names", map[string]string{"EXTRA": "2", "CALLS": "other", "OTHER": "calls"}, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := compare(old, compileWith(t, "new", c.swap), false)
			if err != nil {
				t.Fatal(err)
			}
			if f.functions.wrong != c.functions || f.data.wrong != c.data || f.functions.right < 2 {
				t.Errorf("functions %+v, data %+v; want %d and %d wrong", f.functions, f.data, c.functions, c.data)
			}
		})
	}
	if _, err := compare(old, old, false); !errors.Is(err, errSame) {
		t.Errorf("the same build twice: %v", err)
	}
}

func TestRecipes(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range recipes {
		if seen[r.source] || r.build == "" || len(r.files) == 0 {
			t.Errorf("recipe of %q is twice there or empty", r.source)
		}
		seen[r.source] = true
	}
}
