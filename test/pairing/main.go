// Command pairing proves the pairing of two builds by symbols. It builds
// Debian's sources in the two versions that the archive serves, as Debian does
// but with symbols and relocations kept, strips copies, has internal/diff pair
// those, and holds every pair of functions, variables and constants against
// what the symbols say. It prints a table and ends with exit code 1 when one
// pair is wrong.
//
//	go run ./test/pairing [--only NAME,...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hotpatch/test/archive"
	"hotpatch/test/machine"
	"hotpatch/test/table"
)

type settings struct {
	only, cache, mirror, release, doc string

	keep, verbose bool
}

func main() {
	var s settings
	flag.StringVar(&s.only, "only", "", "the `sources` to build, with commas; all when empty")
	flag.StringVar(&s.cache, "cache", "", "the `folder` for sources ($HOTPATCH_CACHE, or hotpatch in the user's cache folder)")
	flag.StringVar(&s.mirror, "mirror", "http://deb.debian.org/debian", "the archive; that of security updates is the same with -security")
	flag.StringVar(&s.release, "release", "bookworm", "the Debian release")
	flag.StringVar(&s.doc, "doc", "docs/pairing.md", "the `document` that a run over all sources writes")
	flag.BoolVar(&s.keep, "keep", false, "keep what was built, and use it again")
	flag.BoolVar(&s.verbose, "verbose", false, "print every pair that is not certain")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "pairing: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if s.cache == "" {
		var err error
		if s.cache, err = archive.DefaultCache(); err != nil {
			return err
		}
	}
	for program, pkg := range map[string]string{"make": "make", "gcc": "gcc", "g++": "g++", "patch": "patch", "autoreconf": "autoconf", "libtoolize": "libtool", "automake": "automake", "autopoint": "autopoint"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing: apt install %s (%w)", program, pkg, err)
		}
	}
	a, err := archive.OpenSources(ctx, s.cache, s.mirror, s.release)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.cache, "pairing")
	if !s.keep {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	var rows [][]string
	var notes, bad []string
	var sum finding
	for _, r := range recipes {
		if s.only != "" && !slices.Contains(strings.Split(s.only, ","), r.source) || ctx.Err() != nil {
			continue
		}
		fs, versions, err := try(ctx, a, r, filepath.Join(dir, r.source), s)
		if errors.Is(err, errSame) {
			notes = append(notes, fmt.Sprintf("nothing to compare: %s, %s: both builds are the same", r.source, versions))
			err = nil
		}
		if err != nil {
			bad = append(bad, r.source+": "+err.Error())
			fmt.Fprintln(os.Stderr, r.source+": "+err.Error())
		}
		for _, f := range fs {
			rows = append(rows, append([]string{r.source, versions, f.name}, f.row()...))
			fmt.Println(strings.Join(rows[len(rows)-1], "  "))
			if n := f.wrong(); n > 0 {
				bad = append(bad, fmt.Sprintf("%s %s: %d wrong pairs", r.source, f.name, n))
			}
			for _, note := range f.notes {
				notes = append(notes, fmt.Sprintf("moved inside: %s (%s): %s", f.name, f.verdict, note))
			}
			sum.add(f)
		}
		if !s.keep {
			_ = os.RemoveAll(filepath.Join(dir, r.source))
		}
	}
	rows = append(rows, append([]string{"all", "", fmt.Sprintf("%d files", len(rows))}, sum.row()...))
	if s.only == "" && ctx.Err() == nil {
		err = table.Replace(s.doc, func(w io.Writer) error { return document(w, rows, notes, bad) })
	} else {
		err = document(os.Stdout, rows, notes, bad)
	}
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return errors.New("not proved: " + strings.Join(bad, "; "))
	}
	return nil
}

// document is what is printed of a run.
func document(w io.Writer, rows [][]string, notes, bad []string) error {
	fmt.Fprintf(w, `# Pairing

Whether the pairs that the comparison finds in stripped builds are those that the symbols name. Printed by `+"`make pairing`"+` on
%s, %s.
Sources of Debian are built in two versions as Debian builds them, but with symbols; copies are stripped and paired. Where
the archive has one version whole, the older is that one without the last of Debian's patches that changes code.

Right: the symbols say the same. Wrong: they say otherwise. Equivalent: another of the same content, which nothing but its
place tells from the right one: the same code with the same references, or the same bytes. No name: no symbol stands
there, several share a name, or each build has a name that the other lacks. Moved inside: another place in the same object,
as when a field was put in before it, which its type alone can tell. Not paired: the symbols know the counterpart, the comparison does not claim one; what
depends on it is refused.

`, time.Now().Format(time.DateOnly), machine.Name())
	for _, line := range bad {
		fmt.Fprintf(w, "- not proved: %s\n", line)
	}
	for _, line := range notes {
		fmt.Fprintf(w, "- %s\n", line)
	}
	if len(bad)+len(notes) > 0 {
		fmt.Fprintln(w)
	}
	return table.Write(w, append([]string{"source", "versions", "file"}, columns...), rows)
}

// try builds a source in both versions and compares what was built.
func try(ctx context.Context, a *archive.Archive, r recipe, dir string, s settings) ([]*finding, string, error) {
	roots := [2]string{filepath.Join(dir, "old"), filepath.Join(dir, "new")}
	mark := filepath.Join(dir, "built")
	text, err := os.ReadFile(mark)
	between := string(text)
	if err != nil {
		if between, err = obtain(ctx, a, r.source, roots); err != nil {
			return nil, "", err
		}
		for _, root := range roots {
			if err := build(ctx, r, root); err != nil {
				return nil, between, err
			}
		}
		if err := os.WriteFile(mark, []byte(between), 0o644); err != nil {
			return nil, "", err
		}
	}
	var out []*finding
	same := 0
	for _, pattern := range r.files {
		olds, err := filepath.Glob(filepath.Join(roots[0], pattern))
		if err != nil {
			return nil, "", err
		}
		for _, old := range olds {
			rel, err := filepath.Rel(roots[0], old)
			if err != nil {
				return nil, "", err
			}
			if st, err := os.Lstat(old); err != nil || !st.Mode().IsRegular() || script(old) {
				continue // libtool leaves scripts where programs will be
			}
			f, err := compare(old, filepath.Join(roots[1], rel), s.verbose)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, errSame) {
				same++
				continue
			}
			if err != nil {
				return out, between, fmt.Errorf("%s: %w", rel, err)
			}
			f.name = filepath.Base(rel)
			out = append(out, f)
		}
	}
	if len(out) == 0 && same > 0 {
		return nil, between, errSame
	}
	if len(out) == 0 {
		return nil, between, errors.New("the build made none of its files")
	}
	return out, between, nil
}

func script(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	two := make([]byte, 2)
	_, err = io.ReadFull(f, two)
	return err == nil && string(two) == "#!"
}

// build runs a recipe, with the flags that Debian builds with.
func build(ctx context.Context, r recipe, root string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", r.build)
	cmd.Dir = root
	flags := "-g -O2 -ffile-prefix-map=" + root + "=. -fstack-protector-strong -fPIE"
	cmd.Env = append(os.Environ(), "LC_ALL=C", "CFLAGS="+flags, "CXXFLAGS="+flags,
		"CPPFLAGS=-Wdate-time -D_FORTIFY_SOURCE=2", "LDFLAGS=-Wl,-z,relro -Wl,-z,now -Wl,--emit-relocs")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	log, err := os.Create(root + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("build: %w: %s", err, strings.Join(lines[max(0, len(lines)-4):], "; "))
	}
	return nil
}
