package policy

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestSecurityDocNamesTests: what docs/security.md claims is held by the tests
// that it names, so they have to be there.
func TestSecurityDocNamesTests(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, f := range files(t) {
		if !strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				there[fn.Name.Name] = true
			}
		}
	}
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`).FindAllString(string(doc), -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named: the expression or the document is broken", len(named))
	}
	for _, name := range named {
		if !there[name] {
			t.Errorf("docs/security.md names %s, which is no test", name)
		}
	}
}

// TestOnlyOwnProgramsRun: nothing that a process or a container has is run, and
// no environment of theirs is read. Programs are started in these places only.
func TestOnlyOwnProgramsRun(t *testing.T) {
	allowed := []string{
		"internal/engine/worker.go",    // this program itself
		"internal/host/packages.go",    // rpm, of the machine's own system
		"internal/process/rehearse.go", // sleep, to rehearse on
	}
	seen := 0
	for _, f := range files(t) {
		ours := strings.HasPrefix(f.dir, "cmd/") || strings.HasPrefix(f.dir, "internal/")
		if !ours || strings.HasSuffix(f.path, "_test.go") || f.dir == "internal/buildtest" {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				pkg, ok := n.X.(*ast.Ident)
				starts := ok && (pkg.Name == "exec" && strings.HasPrefix(n.Sel.Name, "Command") || n.Sel.Name == "StartProcess" || n.Sel.Name == "ForkExec")
				if starts && !slices.Contains(allowed, f.path) {
					t.Errorf("%s starts a program", f.path)
				}
				if starts {
					seen++
				}
			case *ast.BasicLit:
				if strings.Contains(n.Value, "environ\"") {
					t.Errorf("%s reads an environment: %s", f.path, n.Value)
				}
			}
			return true
		})
	}
	if seen < len(allowed) {
		t.Errorf("%d starts of programs found: the walk is broken", seen)
	}
}
