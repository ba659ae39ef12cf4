package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/bin/wörter, 字":    "/usr/bin/wörter, 字",
		`a "b" c`:               `a "b" c`,
		`a\b\"`:                 `a\\b\\"`,
		"\x1b[2J\r":             `\x1b[2J\r`,
		"a\nb\tc\x00":           `a\nb\tc\x00`,
		"\u009b31m":             `\u009b31m`,
		"\xff\xc3":              `\xff\xc3`,
		"a\u202eb\u2066":        `a\u202eb\u2066`,
		"a\u200bb\ufeff":        `a\u200bb\ufeff`,
		"\u2028\u00a0\ufffd":    `\u2028\u00a0` + "\ufffd",
		"tag \U000e0041 \u00ad": `tag \U000e0041 \u00ad`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %s, want %s", in, got, want)
		}
	}
	for r := range rune(unicode.MaxRune) {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) && strings.ContainsRune(clean(string(r)), r) {
			t.Errorf("%U is printed as it is", r)
		}
	}
}

// Whatever names are, JSON is valid UTF-8 without controls.
func TestJSONIsUTF8(t *testing.T) {
	var out bytes.Buffer
	r := report{Processes: []processReport{{
		PID: 1, Program: "/bin/\xff\u202e\x1b[2J", State: "failed",
		Reasons: []reason{{Code: "unreadable", Detail: "a\n\xc3(", Thread: "\x00", Stack: []string{"\xed\xa0\x80"}}},
	}}}
	if err := (&app{}).print(&out, "status", r); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || !utf8.Valid(out.Bytes()) || bytes.ContainsAny(out.Bytes(), "\x1b\x00") {
		t.Errorf("%v in %q", err, out.Bytes())
	}
}
