// Package machine says on what something was measured.
package machine

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Name is the machine in a few words: cores, processor, kernel.
func Name() string {
	processor := "unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			processor = strings.Trim(name, "\t :\n")
			break
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d cores of %s, kernel %s", runtime.NumCPU(), processor, strings.TrimSpace(string(release)))
}
