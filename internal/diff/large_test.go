package diff_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
)

// program writes a C file of n functions: many of them alike but for what
// they refer to, some with switches, loops, texts, tables and cold parts, all
// static and reached by calls or through tables. In the fixed version the
// functions in change have another constant.
func program(n int, fixed bool, change map[int]bool) string {
	r := rand.New(rand.NewPCG(7, 7))
	var b strings.Builder
	b.WriteString("#include <stdio.h>\n#include <stdlib.h>\nextern int out(int);\n#define S static __attribute__((noinline))\n")
	for i := range n {
		k := 1000 + i%5
		if fixed && change[i] {
			k = 7777
		}
		fmt.Fprintf(&b, "static int v%d, w%d[%d];\n", i, i, 1+i%9)
		callee := "out"
		if i > 3 {
			callee = fmt.Sprintf("f%d", r.IntN(i))
		}
		switch i % 6 {
		case 0: // alike but for the variable
			fmt.Fprintf(&b, "S int f%d(int x) { v%d += x; return v%d * %d; }\n", i, i, i, k)
		case 1: // alike but for the callee
			fmt.Fprintf(&b, "S int f%d(int x) { return %s(x + %d) + 1; }\n", i, callee, k)
		case 2: // alike but for the text
			fmt.Fprintf(&b, "S int f%d(int x) { if (x > %d) puts(\"text %d\"); return x + v%d; }\n", i, k, i, i)
		case 3:
			fmt.Fprintf(&b, "S int f%d(int x) { switch (x) {", i)
			for c := range 6 + i%4 {
				fmt.Fprintf(&b, " case %d: out(x * %d); return v%d + %d;", c, c*c+i%7, (i+c)%(i+1), k+c)
			}
			b.WriteString(" } return -1; }\n")
		case 4: // a cold part
			fmt.Fprintf(&b, "S int f%d(int x) { if (__builtin_expect(x == %d, 0)) { fprintf(stderr, \"bad %d\\n\"); abort(); } w%d[x & 0] = x; return %s(x); }\n", i, k, i, i, callee)
		case 5: // the same body many times
			fmt.Fprintf(&b, "S int f%d(int x) { for (int i = 0; i < x; i++) w%d[i %% %d] ^= out(i); return w%d[0] + %d; }\n", i, i, 1+i%9, i, k)
		}
		if i%10 == 9 {
			fmt.Fprintf(&b, "static int (*const t%d[])(int) = {", i)
			for c := range 10 {
				fmt.Fprintf(&b, "f%d, ", i-c)
			}
			fmt.Fprintf(&b, "};\nint call%d(int k, int x) { return t%d[k](x); }\n", i, i)
		}
	}
	return b.String()
}

// TestLarge pairs a program of several hundred functions without its symbols
// as the symbols pair it.
func TestLarge(t *testing.T) {
	const n = 600
	change := map[int]bool{7: true, 50: true, 123: true, 124: true, 200: true, 333: true, 411: true, 598: true}
	dir := t.TempDir()
	build := func(name string, fixed bool) buildtest.Build {
		src := filepath.Join(dir, name+".c")
		if err := os.WriteFile(src, []byte(program(n, fixed, change)), 0o600); err != nil {
			t.Fatal(err)
		}
		return buildtest.Compile(t, "gcc", "-O2", "-fPIC", "-shared", "-fno-ipa-icf", src)
	}
	o, f := build("old", false), build("new", true)
	r, err := diff.Compare(o.Stripped, f.Stripped)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range unlike(r, o, f) {
		t.Error(p)
	}
	want := []string{}
	for i := range change {
		want = append(want, fmt.Sprintf("f%d", i))
	}
	slices.Sort(want)
	if d := cmp.Diff(want, changes(r, f)); d != "" {
		t.Errorf("changed functions (-want +got):\n%s\n%v\n%s", d, r.Reasons, why(r, f))
	}
}

// TestChurn: a build by another compiler is one, and one in which an object's
// layout changed is not taken for that.
func TestChurn(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		src := filepath.Join(dir, name)
		if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return src
	}
	var b strings.Builder
	b.WriteString("struct s { long a;\n#ifdef GROW\n  long more;\n#endif\n  long b, c; };\nextern long out(long);\n")
	for i := range 100 {
		fmt.Fprintf(&b, "long g%d(struct s *s) { s->b += out(s->a * %d + s->c); return s->c; }\n", i, 3+i)
	}
	many, fields := write("many.c", program(300, false, nil)), write("fields.c", b.String())
	for _, c := range []struct {
		name     string
		old, new []string
		want     diff.Code
	}{
		{"another compiler", []string{"gcc", "-O2", many}, []string{"clang", "-O2", many}, diff.Churn},
		{"other options", []string{"gcc", "-O2", many}, []string{"gcc", "-O1", many}, diff.Churn},
		{"a field more", []string{"gcc", "-O2", fields}, []string{"gcc", "-O2", "-DGROW", fields}, diff.DataLayout},
	} {
		compile := func(args []string) buildtest.Build {
			return buildtest.Compile(t, args[0], append([]string{"-fPIC", "-shared"}, args[1:]...)...)
		}
		r, err := diff.Compare(compile(c.old).Stripped, compile(c.new).Stripped)
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != diff.Refused || len(r.Reasons) != 1 || r.Reasons[0].Code != c.want {
			t.Errorf("%s: %v %.300v, want %v alone", c.name, r.Verdict, r.Reasons, c.want)
		}
	}
}
