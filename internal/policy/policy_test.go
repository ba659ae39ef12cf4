// Package policy holds the rules of this code base as tests: what a reviewer
// would otherwise have to look for.
package policy

import (
	"bufio"
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// goFile is one parsed file of the module.
type goFile struct {
	path string // from the root of the module
	dir  string
	ast  *ast.File
	raw  []byte
}

func files(t *testing.T) []goFile {
	t.Helper()
	var out []goFile
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") && p != root {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(p) != ".go" {
			return nil
		}
		raw, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, p, raw, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		out = append(out, goFile{rel, filepath.Dir(rel), f, raw})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d Go files found: the walk is broken", len(out))
	}
	return out
}

func TestPackagesHaveComments(t *testing.T) {
	documented := make(map[string]bool)
	for _, f := range files(t) {
		documented[f.dir] = documented[f.dir] || f.ast.Doc != nil && len(f.ast.Doc.Text()) > 20
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package in %s has no comment that says its job", dir)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	const most = 600
	for _, f := range files(t) {
		if n := bytes.Count(f.raw, []byte("\n")); n > most {
			t.Errorf("%s has %d lines, more than %d: split it by idea", f.path, n, most)
		}
	}
}

// TestOnlyProcessTraces: stopping threads wrongly hurts whoever is stopped, so
// one package does it.
func TestOnlyProcessTraces(t *testing.T) {
	for _, f := range files(t) {
		if f.dir == "internal/process" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := s.X.(*ast.Ident); ok && (pkg.Name == "unix" || pkg.Name == "syscall") &&
				(strings.HasPrefix(s.Sel.Name, "Ptrace") || strings.HasPrefix(s.Sel.Name, "PTRACE_") || s.Sel.Name == "SYS_PTRACE") {
				t.Errorf("%s uses %s.%s: only internal/process traces", f.path, pkg.Name, s.Sel.Name)
			}
			return true
		})
	}
}

// arrows are what a package must not import, and why. Test files may.
var arrows = []struct {
	from, to []string
	why      string
}{
	{[]string{"internal/module/x86", "internal/module/cfi"}, []string{"internal/"}, "decoders are pure: bytes in, values out"},
	{[]string{"internal/module"}, []string{"internal/debuginfo", "internal/diff", "internal/patch", "internal/process", "internal/engine", "internal/host", "internal/plan"}, "a module knows nothing of comparing or patching"},
	{[]string{"internal/debuginfo"}, []string{"internal/diff", "internal/patch", "internal/process", "internal/engine", "internal/host", "internal/plan"}, "debug information is read without judging it"},
	{[]string{"internal/diff"}, []string{"internal/patch", "internal/process", "internal/engine", "internal/host", "internal/plan"}, "comparing knows nothing of what is made of it"},
	{[]string{"internal/patch"}, []string{"internal/process", "internal/engine", "internal/host", "internal/plan"}, "a patch knows nothing of processes"},
	{[]string{"internal/check"}, []string{"internal/diff", "internal/module", "internal/module/cfi", "internal/process", "internal/engine", "internal/host", "internal/plan"}, "a proof shares only the decoder with what it proves"},
	{[]string{"internal/module", "internal/diff", "internal/patch"}, []string{"internal/check"}, "what is proved does not use the proof"},
	{[]string{"internal/process"}, []string{"internal/diff", "internal/patch", "internal/engine", "internal/host", "internal/plan"}, "a process knows nothing of patches"},
	{[]string{"internal/host"}, []string{"internal/diff", "internal/patch", "internal/process", "internal/engine", "internal/plan"}, "the host only looks"},
	{[]string{"internal/deb"}, []string{"internal/"}, "packages are read without knowing what for"},
	{[]string{"internal/engine"}, []string{"internal/host", "internal/plan", "internal/deb"}, "the engine is told what to do"},
	{[]string{"internal/plan"}, []string{"internal/engine", "internal/process"}, "a plan is not carried out here"},
	{[]string{"internal"}, []string{"cmd/", "test/", "examples/"}, "what is inside does not know who uses it"},
}

func TestArrowsPointOneWay(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, imp := range f.ast.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to, ok := strings.CutPrefix(path, "hotpatch/")
			if !ok {
				continue
			}
			for _, a := range arrows {
				from := slices.ContainsFunc(a.from, func(d string) bool {
					return f.dir == d || d == "internal" && strings.HasPrefix(f.dir, "internal/")
				})
				into := slices.ContainsFunc(a.to, func(d string) bool { return to == d || strings.HasSuffix(d, "/") && strings.HasPrefix(to, d) })
				if from && into {
					t.Errorf("%s imports %s: %s", f.path, to, a.why)
				}
			}
		}
	}
}

func TestNoCatchAllPackages(t *testing.T) {
	for _, f := range files(t) {
		switch f.ast.Name.Name {
		case "util", "utils", "common", "helpers", "types", "misc":
			t.Errorf("%s: package %s says nothing of what it holds", f.path, f.ast.Name.Name)
		}
	}
}

// TestDependenciesHaveReasons: every direct dependency is named with its reason in CONTRIBUTING.md.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^\s*(?:require )?([a-z0-9.]+\.[a-z]+/\S+) v\S+$`)
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(mod)); s.Scan(); {
		m := line.FindStringSubmatch(s.Text())
		if m == nil {
			continue
		}
		n++
		if !strings.Contains(string(doc), "`"+m[1]+"`: ") {
			t.Errorf("%s is required, and CONTRIBUTING.md does not say why", m[1])
		}
	}
	if n == 0 {
		t.Error("no direct dependency found: the expression is broken")
	}
}
