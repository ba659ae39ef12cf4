package check_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"hotpatch/internal/check"
	"hotpatch/internal/module"
	"hotpatch/internal/patch"
)

// smallPair is two builds and the patch between them: switch, table, pointer, call-frame information.
func smallPair(t testing.TB, flags ...string) (old, fixed, hp []byte) {
	t.Helper()
	const text = "static int v = 3; static const int w[] = {1, 2, 3, 4}; int (*hook)(int); extern int g(int);\n" +
		"__attribute__((noinline)) static int f(int i) { return w[i & 3] + v++; }\n" +
		"int h(int i) { switch (i) { case 0: return g(1); case 1: return g(7) + 1; case 2: return g(3) * 2; case 3: return g(5) - 4; case 4: return g(2) / 3; } hook = f; return f(i) + FIX; }\n"
	dir := t.TempDir()
	src := filepath.Join(dir, "a.c")
	if err := os.WriteFile(src, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := func(fix string) []byte {
		out := filepath.Join(dir, "a.so")
		if b, err := exec.Command("gcc", append(flags, "-O2", "-Wl,-z,noseparate-code", "-DFIX="+fix, "-o", out, src)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return readFile(t, out)
	}
	old, fixed = build("0"), build("v*(i>9)")
	var ms [2]*module.Module
	for i, b := range [][]byte{old, fixed} {
		m, err := module.New(b, "a.so")
		if err != nil {
			t.Fatal(err)
		}
		ms[i] = m
	}
	if hp = encode(t, ms[0], ms[1]); hp == nil {
		t.Fatal("no patch")
	}
	return old, fixed, hp
}

// FuzzPatch: whatever stands in a patch or in the two builds, the proof ends
// without a panic, and with bounded work. The patch is given the digest and
// the builds the identities that belong to what they are.
func FuzzPatch(f *testing.F) {
	for _, flags := range [][]string{
		{"-fPIC", "-shared", "-nostdlib", "-s"},
		{"-fno-pie", "-no-pie", "-nostartfiles", "-Wl,-e,h", "-Wl,--emit-relocs", "-Wl,--defsym,g=h"},
	} {
		old, fixed, hp := smallPair(f, flags...)
		f.Add(old, fixed, hp)
	}
	f.Fuzz(func(t *testing.T, old, fixed, hp []byte) {
		body := hp[:max(0, len(hp)-sha256.Size)]
		sum := sha256.Sum256(body)
		p, err := patch.Read(append(bytes.Clone(body), sum[:]...))
		if err != nil {
			return
		}
		for _, b := range []struct {
			data []byte
			id   *module.Identity
		}{{old, &p.Baseline}, {fixed, &p.Fixed}} {
			if *b.id, err = module.ReadIdentity(bytes.NewReader(b.data), int64(len(b.data))); err != nil {
				return
			}
		}
		_, _ = check.Patch(p, old, fixed) // a fault or an error are answers
	})
}
