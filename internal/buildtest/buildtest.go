// Package buildtest compiles the programs that tests compare: one source in
// several versions, each linked once and then stripped, so that the symbols of
// the one file are the truth about the other.
package buildtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hotpatch/internal/module"
)

// A Build is one version of a program.
type Build struct {
	Full     *module.Module // with symbols
	Stripped *module.Module // the same link without
	Path     string         // of the file with symbols
}

// A Variant is what a case says of the build with one macro defined.
type Variant struct {
	Macro string
	Want  []string // the verdict, then what belongs to it
}

// A Case is a source file whose first lines say how to compile it and what
// comes out when the build without a macro is compared with the one where
// MACRO is defined:
//
//	// cc: gcc -O2 -fPIC -shared
//	// MACRO: patchable changed +added
//	// MACRO: refused data-layout
type Case struct {
	Name     string
	Source   string
	Command  []string
	Variants []Variant
}

// Cases reads every case in a folder.
func Cases(t testing.TB, dir string) []Case {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	out := make([]Case, 0, len(files))
	for _, f := range files {
		out = append(out, read(t, f))
	}
	return out
}

func read(t testing.TB, file string) Case {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := Case{Name: filepath.Base(file), Source: file}
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("// "))
		if !ok {
			break
		}
		key, value, ok := strings.Cut(string(rest), ":")
		switch {
		case !ok:
		case key == "cc":
			c.Command = strings.Fields(value)
		case key == strings.ToUpper(key) && len(strings.Fields(value)) > 0:
			c.Variants = append(c.Variants, Variant{key, strings.Fields(value)})
		}
	}
	if c.Command == nil || c.Variants == nil {
		t.Fatalf("%s does not say how it is compiled and what comes out", file)
	}
	return c
}

// Compile builds the case with a macro defined, or none.
func (c Case) Compile(t testing.TB, macro string) Build {
	t.Helper()
	args := slices.Clone(c.Command[1:])
	if macro != "" {
		args = append(args, "-D"+macro)
	}
	return Compile(t, c.Command[0], append(args, c.Source)...)
}

// Compile runs a compiler and reads what it made.
func Compile(t testing.TB, compiler string, args ...string) Build {
	t.Helper()
	if _, err := exec.LookPath(compiler); err != nil {
		t.Fatalf("%s is not installed: apt install gcc g++ libc6-dev binutils clang lld", compiler)
	}
	dir := t.TempDir()
	full, stripped := filepath.Join(dir, "full"), filepath.Join(dir, "stripped")
	run(t, compiler, append(args, "-o", full)...)
	strip := []string{"-o", stripped, full}
	if slices.Contains(args, "-Wl,--emit-relocs") {
		strip = append(strip, "--strip-unneeded") // which keeps them
	}
	run(t, "strip", strip...)
	return Build{Full: open(t, full), Stripped: open(t, stripped), Path: full}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func open(t testing.TB, path string) *module.Module {
	t.Helper()
	m, err := module.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// NameOf is the symbol at the entry of a function of the stripped build, the
// first one by name.
func (b Build) NameOf(f *module.Func) string {
	g := b.Full.FuncAt(f.Entry())
	if g == nil || len(g.Names) == 0 {
		return f.Name
	}
	return slices.Min(g.Names)
}
