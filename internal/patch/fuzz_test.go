package patch_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// small are two builds with C++ exceptions, a table of callbacks, a switch and a
// variable.
func small(t testing.TB, flags ...string) (old, fixed []byte) {
	t.Helper()
	const text = `static int v = 3; static const int w[] = {1, 2, 3, 4}; extern int g(int);
__attribute__((noinline)) static int f(int i) { return w[i & 3] + v++; }
static int e(int i) { try { return g(i); } catch (int n) { return n; } }
extern int (*const hooks[])(int) = {f, e};
int h(int i) { switch (i) { case 0: return g(1); case 1: return g(7) + 1; case 2: return g(3) * 2; case 3: return g(5) - 4; case 4: return g(2) / 3; } return f(i) + FIX; }
`
	dir := t.TempDir()
	src, out := filepath.Join(dir, "a.cc"), filepath.Join(dir, "a.so")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := func(fix string) []byte {
		if b, err := exec.Command("g++", append(flags, "-O2", "-Wl,-z,noseparate-code", "-DFIX="+fix, "-o", out, src)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return build("0"), build("v*(i>9)")
}

// FuzzBuild: two files of any content are compared and made a patch of, or
// refused, without a panic and with bounded work; what is made can be read.
func FuzzBuild(f *testing.F) {
	for _, flags := range [][]string{
		{"-fPIC", "-shared", "-nostdlib", "-s"},
		{"-fno-pie", "-no-pie", "-nostartfiles", "-Wl,-e,_Z1hi", "-Wl,--emit-relocs", "-Wl,--defsym,_Z1gi=_Z1hi"},
	} {
		old, fixed := small(f, flags...)
		f.Add(old, fixed)
	}
	f.Fuzz(func(t *testing.T, old, fixed []byte) {
		o, err := module.New(old, "old")
		if err != nil {
			return
		}
		n, err := module.New(fixed, "fixed")
		if err != nil {
			return
		}
		r, err := diff.Compare(o, n)
		if err != nil {
			return
		}
		p, _, err := patch.Build(r, "fuzz")
		if err != nil || p == nil {
			return
		}
		data, err := p.Encode()
		if err != nil {
			return
		}
		if _, err := patch.Read(data); err != nil {
			t.Fatalf("what was built cannot be read: %v", err)
		}
	})
}
