package host_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"hotpatch/internal/host"
)

// crowd starts n small processes and gives the pid of their parent.
func crowd(t testing.TB, n int) (prog, lib string) {
	t.Helper()
	prog, lib = buildDynamic(t, tempDir(t))
	start(t, exec.Command(prog, "fork", fmt.Sprint(n)))
	return prog, lib
}

// TestMany scans a thousand processes, before and after their library is replaced.
func TestMany(t *testing.T) {
	privileged(t)
	const n = 1000
	_, lib := crowd(t, n)
	for _, want := range []host.State{host.Current, host.Outdated} {
		begin := time.Now()
		procs, err := host.Scan(t.Context(), host.Options{})
		took := time.Since(begin)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, p := range procs {
			for _, m := range p.Modules {
				if m.Path == lib && m.State == want {
					found++
				}
			}
		}
		if found != n+1 {
			t.Errorf("%d of %d processes are %s", found, n+1, want)
		}
		// It takes some 0.1 s; the bound only tells apart what grows with the square.
		if took > 5*time.Second {
			t.Errorf("scanning %d processes took %v", n, took)
		}
		buildLibrary(t, lib+".new", 2)
		rename(t, lib+".new", lib)
	}
}

func BenchmarkScan(b *testing.B) {
	privileged(b)
	for _, n := range []int{1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			crowd(b, n)
			for b.Loop() {
				procs, err := host.Scan(b.Context(), host.Options{})
				if err != nil || len(procs) < n {
					b.Fatalf("%d processes, %v", len(procs), err)
				}
			}
		})
	}
}

func TestScanStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := host.Scan(ctx, host.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
