// Command bench measures hotpatch and prints its tables: the pause that a
// process sees when it is patched, what the parts of a stop cost, how fast many are, the time and memory that building a patch
// takes, the memory that a patch adds to a process, and what a call of a
// patched function costs.
//
//	go run ./test/bench [--rounds N] [--count N] [--only pause,stop,many,build,memory,call]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"hotpatch/test/archive"
	"hotpatch/test/machine"
	"hotpatch/test/tool"
)

type settings struct {
	tool, cache, mirror, release, only string
	rounds, count                      int
}

// bench is what the measurements share.
type bench struct {
	settings
	tool    tool.Tool
	archive *archive.Archive // opened when a measurement needs it
	dir     string
}

func main() {
	var s settings
	flag.StringVar(&s.tool, "tool", "", "the hotpatch `executable`; built from this checkout when empty")
	flag.StringVar(&s.cache, "cache", "", "the `folder` for packages ($HOTPATCH_CACHE, or hotpatch in the user's cache folder)")
	flag.StringVar(&s.mirror, "mirror", "http://deb.debian.org/debian", "the archive; that of security updates is the same with -security")
	flag.StringVar(&s.release, "release", "bookworm", "the Debian release")
	flag.StringVar(&s.only, "only", "pause,stop,many,build,memory,call", "what to measure")
	flag.IntVar(&s.rounds, "rounds", 40, "how often to apply and roll back for each number of threads")
	flag.IntVar(&s.count, "count", 4000, "how many processes to patch at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "hotpatch-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bench{settings: s, tool: tool.Tool{Path: s.tool}, dir: dir}
	if b.tool.Path == "" {
		if b.tool, err = tool.Build(ctx, dir); err != nil {
			return err
		}
	}
	fmt.Printf("%s, %s\n", time.Now().Format(time.DateOnly), machine.Name())
	measurements := []struct {
		name string
		run  func(context.Context) error
	}{{"pause", b.pause}, {"stop", b.stop}, {"many", b.many}, {"build", b.build}, {"memory", b.memory}, {"call", b.call}}
	chosen := strings.Split(s.only, ",")
	for _, m := range measurements {
		if !slices.Contains(chosen, m.name) {
			continue
		}
		if err := m.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// openArchive opens the Debian archive once.
func (b *bench) openArchive(ctx context.Context) error {
	if b.archive != nil {
		return nil
	}
	cache := b.cache
	if cache == "" {
		var err error
		if cache, err = archive.DefaultCache(); err != nil {
			return err
		}
	}
	var err error
	b.archive, err = archive.Open(ctx, cache, b.mirror, b.release)
	return err
}
