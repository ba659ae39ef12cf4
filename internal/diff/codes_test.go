package diff_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCodesAreExplained: every reason and remark is in docs/verdicts.md.
func TestCodesAreExplained(t *testing.T) {
	src, err := os.ReadFile("diff.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/verdicts.md")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?:Code|RemarkKind) += "([a-z-]+)"`).FindAllSubmatch(src, -1)
	if len(codes) < 20 {
		t.Fatalf("only %d codes found: the expression is broken", len(codes))
	}
	for _, c := range codes {
		if !strings.Contains(string(doc), "| `"+string(c[1])+"` | ") {
			t.Errorf("docs/verdicts.md does not explain %s", c[1])
		}
	}
}
