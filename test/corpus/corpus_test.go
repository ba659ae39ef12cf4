package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/diff"
)

func TestUpstream(t *testing.T) {
	for version, want := range map[string]string{
		"5:7.0.15-1~deb12u7": "7.0.15", "2.3.3-9+deb12u1": "2.3.3", "1.0-rc1-2": "1.0-rc1", "3.0": "3.0",
	} {
		if got := upstream(version); got != want {
			t.Errorf("upstream(%q) = %q, want %q", version, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("# comment\nsource\tpackage\na\tx\nb\ty\nc\tz\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		only, slice string
		want        []string
	}{
		{"", "", []string{"a", "b", "c"}},
		{"", "1/2", []string{"a", "c"}},
		{"", "2/2", []string{"b"}},
		{"q,a", "1/2", []string{"q", "a"}},
		{"", "3/2", nil},
		{"", "half", nil},
	} {
		got, err := choose(settings{list: list, only: c.only, slice: c.slice})
		if d := cmp.Diff(c.want, got); d != "" || (err == nil) != (c.want != nil) {
			t.Errorf("only %q, slice %q: %v, (-want +got):\n%s", c.only, c.slice, err, d)
		}
	}
}

func TestExplain(t *testing.T) {
	for text, want := range map[string]string{
		"/x: error while loading shared libraries: libq.so.5: cannot open shared object file: No such file or directory": "missing-library: libq.so.5",
		"/x/mod.so: undefined symbol: apr_table_set":                    "undefined-symbol: apr_table_set",
		"host: symbol lookup error: /x: undefined symbol: f, version V": "undefined-symbol: f",
		"/x: version `GLIBC_2.38' not found (required by /x)":           "missing-version: GLIBC_2.38",
		"boo": "ended: boo",
	} {
		if got := explain(text).Error(); got != want {
			t.Errorf("explain(%q) = %q, want %q", text, got, want)
		}
	}
}

// Whatever the builder may refuse has something to say in the document.
func TestWishes(t *testing.T) {
	for _, c := range []diff.Code{
		diff.NotPositionIndependent, diff.NoEntryRoom, diff.JumpIntoEntry, diff.RemovedExport, diff.DataLayout, diff.InitialValue,
		diff.ConstantData, diff.TLSLayout, diff.Constructor, diff.ConflictingPairs, diff.UnpairedData, diff.UnpairedFunction,
		diff.OutsideFDE, diff.Undecodable, diff.IndirectJump, diff.Labels, diff.ShortBranch, diff.Churn, diff.UnresolvedImport,
		diff.UnsupportedModule,
	} {
		if wishes[c] == "" {
			t.Errorf("nothing is written about %s", c)
		}
	}
}

// A crash, a time-out or an unknown error of any step is named, and the share
// counts only sources that are patchable as a whole.
func TestReport(t *testing.T) {
	f := func(verdict, why string) *file {
		return &file{Path: "/" + verdict, Build: built{Verdict: verdict, Error: why}}
	}
	cycle := &file{Path: "/live", Build: built{Verdict: "patchable"}, Live: lived{State: liveFailed, Detail: "after the rollback"}}
	check := &file{Path: "/check", Build: built{Verdict: "patchable"}, Check: step{State: faulty, Details: []string{"wrong branch"}}}
	rep := &report{results: []*result{
		{Source: "whole", Old: "1-1", New: "1-2", Files: []*file{f("patchable", ""), f("unchanged", "")}},
		{Source: "half", Old: "1-1", New: "1-2", Files: []*file{f("patchable", ""), f("refused", "")}},
		{Source: "none", Old: "1-1", New: "1-2", Files: []*file{f("unchanged", "")}},
		{Source: "newer", Old: "1-1", New: "2-1", Files: []*file{f("patchable", "")}},
		{Source: "bad", Old: "1-1", New: "2-1", Files: []*file{f(timedOut, "longer"), f(crashed, "panic"), f(failed, "odd"), cycle, check}},
		{Source: "lost", Old: "1-1", New: "1-2", Error: "fetch"},
		{Source: "busy", Old: "1-1", New: "2-1", Workloads: []worked{
			{Does: "works", Ran: 1, Steered: 2, Differs: "0 → 1"}, {Does: "does not", Error: "another result"}, {Because: "no function ran"},
		}},
	}}
	if of, whole, live := rep.shares(); of != 3 || whole != 1 || live != 0 { // lost counts: nothing may be hidden
		t.Errorf("%d of %d, %d live, want 1 of 3, 0 live", whole, of, live)
	}
	var text strings.Builder
	if err := rep.write(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"longer", "panic", "odd", "after the rollback", "wrong branch", "lost: fetch", "busy: workload: does not: another result", "**1 sources** did", "in 1 of them"} {
		if !strings.Contains(text.String(), "\n- ") || !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if got := len(rep.failures()); got != 7 {
		t.Errorf("%d failures, want 7: %v", got, rep.failures())
	}
}

// A program is held before main, answers, and its code can be read.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	h, err := newHolder(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	libc, err := filepath.EvalSymlinks("/lib/x86_64-linux-gnu/libm.so.6")
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.start(order{program: h.host, libraries: []string{libc}, dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.ping(); err != nil {
		t.Error(err)
	}
	code, err := text(p.cmd.Process.Pid, libc)
	if err != nil || len(code) < 1000 {
		t.Errorf("%d bytes of code, %v", len(code), err)
	}
	_, err = h.start(order{program: h.host, libraries: []string{"/nonexistent.so"}, dir: dir})
	if want := "missing-library: /nonexistent.so"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// A copy of a held program runs to its end, as often as it is told to; what
// comes of it is its exit status, what it prints, and the files that are there.
func TestStage(t *testing.T) {
	dir := t.TempDir()
	h, err := newHolder(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	b, tr := &bench{holder: h}, &trees{dir: dir}
	own := filepath.Join(tr.root("old", "pkg"), "data")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	w := workload{program: "/bin/sh", args: "script {/data}", input: `echo 'echo $1 >&2; echo more >>file; exit 3' >script; echo some >file`}
	s, err := b.stage(tr, w, "old", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for range 2 {
		got, err := s.result()
		want := "exit status 3\n/pkg/data\n\nfile: 10 bytes, "
		if err != nil || !strings.HasPrefix(got, want) || !strings.Contains(got, "\nscript: 38 bytes, ") {
			t.Errorf("%q, %v, want %q and the script", got, err, want)
		}
	}
}

func TestUnlike(t *testing.T) {
	for _, c := range [][3]string{{"a\nb", "a\nb", ""}, {"a\nb", "a\nc\nd", "b → c"}, {"a", "a\nb", " → b"}} {
		if got := unlike(c[0], c[1]); got != c[2] {
			t.Errorf("unlike(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}
