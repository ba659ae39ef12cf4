package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed target/floor.c
var floorSource []byte

// floorOf measures what this kernel takes for a stop of a process in which
// nothing is done, by a program of its own. Microseconds.
func (b *bench) floorOf(ctx context.Context, pid int) ([]float64, error) {
	program := filepath.Join(b.dir, "floor")
	if _, err := os.Stat(program); err != nil {
		if err := os.WriteFile(program+".c", floorSource, 0o644); err != nil {
			return nil, fmt.Errorf("write target/floor.c: %w", err)
		}
		if said, err := exec.CommandContext(ctx, "gcc", "-O2", "-o", program, program+".c").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile target/floor.c: %w\n%s", err, said)
		}
	}
	out, err := exec.CommandContext(ctx, program, strconv.Itoa(pid), strconv.Itoa(b.rounds)).Output()
	if err != nil {
		return nil, fmt.Errorf("stop process %d: %w", pid, err)
	}
	var took []float64
	for _, line := range strings.Fields(string(out)) {
		ns, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read what target/floor.c measured: %w", err)
		}
		took = append(took, micros(time.Duration(ns)))
	}
	return took, nil
}
