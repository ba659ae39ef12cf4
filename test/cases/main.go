// Command cases runs the tests that patch programs in every place one may run
// in, and writes what came out as a table: docs/cases.md.
//
//	go run ./test/cases [--doc FILE]
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"hotpatch/test/machine"
	"hotpatch/test/table"
)

func main() {
	doc := flag.String("doc", "docs/cases.md", "the `document` to write")
	flag.Parse()
	if err := run(*doc); err != nil {
		fmt.Fprintln(os.Stderr, "cases:", err)
		os.Exit(1)
	}
}

// outcome is what became of one test.
type outcome struct {
	action  string   // pass, fail or skip
	results []string // that it told of itself, without repetition
}

func run(doc string) error {
	tests := map[string][]string{} // the top-level tests of each package
	var pkgs []string
	for _, g := range groups {
		for _, r := range g.rows {
			if tests[r.pkg] == nil {
				pkgs = append(pkgs, r.pkg)
			}
			top, _, _ := strings.Cut(r.test, "/")
			if !slices.Contains(tests[r.pkg], top) {
				tests[r.pkg] = append(tests[r.pkg], top)
			}
		}
	}
	seen := map[string]*outcome{}
	for _, pkg := range pkgs {
		if err := runTests(pkg, tests[pkg], seen); err != nil {
			return err
		}
	}
	var bad error
	err := table.Replace(doc, func(w io.Writer) error {
		fmt.Fprintf(w, "# Cases\n\nEvery place that a program may run in, and what becomes of a patch there. Each case is a live process that answers\n"+
			"before and after. Printed by `make cases` on %s, %s.\n", time.Now().UTC().Format(time.DateOnly), machine.Name())
		for _, g := range groups {
			rows := make([][]string, len(g.rows))
			for i, r := range g.rows {
				got, ok := resultOf(seen, r)
				if !ok {
					bad = errors.Join(bad, fmt.Errorf("%s: %s", r.test, got))
				}
				rows[i] = []string{r.name, r.expect, got, r.test}
			}
			fmt.Fprintf(w, "\n## %s\n\n", g.title)
			if err := table.Write(w, []string{"case", "expected", "result", "test"}, rows); err != nil {
				return err
			}
		}
		rows := make([][]string, len(untested))
		for i, r := range untested {
			rows[i] = []string{r.name, r.expect}
		}
		fmt.Fprint(w, "\n## Untested\n\nThe kernel here cannot show these.\n\n")
		return table.Write(w, []string{"case", "what there is"}, rows)
	})
	return errors.Join(err, bad)
}

// runTests runs tests of one package and adds what became of them, by package
// and name.
func runTests(pkg string, names []string, seen map[string]*outcome) error {
	cmd := exec.Command("go", "test", "-json", "-count=1", "-run", "^("+strings.Join(names, "|")+")$", pkg)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e struct{ Action, Test, Key, Value string }
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("read results of %s: %w", pkg, err)
		}
		o := seen[pkg+" "+e.Test]
		if o == nil {
			o = &outcome{}
			seen[pkg+" "+e.Test] = o
		}
		switch e.Action {
		case "pass", "fail", "skip":
			o.action = e.Action
		case "attr":
			if e.Key == "result" && !slices.Contains(o.results, e.Value) {
				o.results = append(o.results, e.Value)
			}
		}
	}
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) { // a test that failed is a result
		return err
	}
	return nil
}

// resultOf is what the test of a row, or its subtests, told; ok when all passed.
func resultOf(seen map[string]*outcome, r row) (string, bool) {
	name := regexp.MustCompile("^" + regexp.QuoteMeta(r.pkg+" "+r.test) + "(/.*)?$")
	found, passed := 0, 0
	var results []string
	for key, o := range seen {
		if !name.MatchString(key) {
			continue
		}
		found++
		if o.action == "pass" {
			passed++
		}
		results = append(results, o.results...)
	}
	slices.Sort(results)
	switch results = slices.Compact(results); {
	case found == 0:
		return "not run", false
	case passed < found:
		return fmt.Sprintf("%d of %d failed", found-passed, found), false
	case len(results) == 0:
		return "as expected", true
	}
	return strings.Join(results, "; "), true
}
