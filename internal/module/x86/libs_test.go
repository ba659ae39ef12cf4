package x86

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"
)

var extraFiles = flag.String("files", "", "more ELF files to compare with objdump, separated by commas")

// TestLibraries compares all code under an FDE of large libraries with objdump.
func TestLibraries(t *testing.T) {
	files := []string{
		"/usr/lib/x86_64-linux-gnu/libc.so.6",
		"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
	}
	if *extraFiles != "" {
		files = append(files, strings.Split(*extraFiles, ",")...)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			v := &verdict{}
			t.Cleanup(func() {
				t.Logf("%d instructions, %d targets, %d displacements, %d immediates, %d sizes, kinds %v",
					v.insts, v.targets, v.disps, v.imms, v.memSize, v.kinds)
				if v.insts == 0 || v.targets == 0 || v.disps == 0 || v.imms == 0 || v.memSize == 0 {
					t.Error("something was never compared")
				}
			})
			for _, p := range fdePieces(t, file, 2<<20) {
				t.Run("part", func(t *testing.T) {
					t.Parallel()
					v.check(t, p)
				})
			}
		})
	}
}
