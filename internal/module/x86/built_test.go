package x86

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBuilt compares code that the test builds: what a compiler makes of
// loops for the vector sets of three processors, and forms by name.
func TestBuilt(t *testing.T) {
	gcc := tool(t, "gcc", "gcc")
	for _, tt := range []struct {
		name, source string
		flags        []string
		insts        int // at least
	}{
		{"avx512", "vector.c", []string{"-O3", "-march=skylake-avx512", "-mprefer-vector-width=512"}, 2000},
		{"fp16", "vector.c", []string{"-O3", "-march=sapphirerapids"}, 2000},
		{"xop", "vector.c", []string{"-O3", "-march=bdver4"}, 2000},
		{"forms", "forms.S", nil, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "built.so")
			args := append(tt.flags, "-shared", "-fPIC", "-w", "-o", file, filepath.Join("testdata", tt.source))
			if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
				t.Fatalf("compile %s: %v\n%s", tt.source, err, out)
			}
			v := &verdict{}
			for _, p := range fdePieces(t, file, 1<<20) {
				v.check(t, p)
			}
			t.Logf("%d instructions, %d under VEX, %d under EVEX", v.insts, v.vex, v.evex)
			if v.insts < tt.insts || v.vex == 0 || (v.evex == 0) != (tt.name == "xop") {
				t.Errorf("%d instructions, %d under VEX, %d under EVEX: too few", v.insts, v.vex, v.evex)
			}
		})
	}
}
