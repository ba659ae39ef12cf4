package tool

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Placed is a function of a patch in the overlay of a process.
type Placed struct {
	Name    string // with its module
	Addr    uint64 // of its entry, in the process
	Steered bool
}

// Overlay lists, by name, the functions of those of the patch files that are
// in a process.
func (t Tool) Overlay(ctx context.Context, pid int, files []string) ([]Placed, error) {
	status, err := t.Status(ctx, pid)
	if err != nil {
		return nil, err
	}
	bias := map[string]uint64{}
	for _, p := range status.Processes {
		for _, m := range p.Modules {
			bias[m.Patch] = m.OverlayBias
		}
	}
	var out []Placed
	for _, file := range files {
		p, err := t.Inspect(ctx, file)
		if err != nil {
			return nil, err
		}
		b, ok := bias[p.ID]
		if !ok {
			continue
		}
		for _, f := range p.Functions {
			if len(f.Ranges) > 0 {
				out = append(out, Placed{p.Module + " " + f.Name, b + f.Ranges[0].Start, f.Steered})
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("status names no overlay of the patches in process %d", pid)
	}
	slices.SortFunc(out, func(x, y Placed) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}
