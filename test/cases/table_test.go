package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNames: each row names a test that there is.
func TestNames(t *testing.T) {
	sources := map[string]string{}
	for _, g := range groups {
		for _, r := range g.rows {
			if sources[r.pkg] == "" {
				files, err := filepath.Glob(filepath.Join("../..", r.pkg, "*_test.go"))
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range files {
					b, err := os.ReadFile(f)
					if err != nil {
						t.Fatal(err)
					}
					sources[r.pkg] += string(b)
				}
			}
			top, sub, _ := strings.Cut(r.test, "/")
			if !strings.Contains(sources[r.pkg], "func "+top+"(t *testing.T)") || !strings.Contains(sources[r.pkg], sub) {
				t.Errorf("%s: %s has no test %s", r.name, r.pkg, r.test)
			}
		}
	}
}
