package plan

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/diff"
	"hotpatch/internal/host"
	"hotpatch/internal/patch"
)

const source = `
#include <stdio.h>
__attribute__((noinline, noipa)) int answer(int n) {
	volatile int sum = LIMIT;
	for (int i = 0; i < n; i++) sum++;
	return sum;
}
int main(void) { return printf("%d\n", answer(3)) < 0; }
`

func compile(t *testing.T, dir, name, limit string, args ...string) string {
	t.Helper()
	src := filepath.Join(t.TempDir(), "prog.c")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("gcc", append(args, "-O2", "-s", "-Wl,--build-id", "-DLIMIT="+limit, "-o", out, src)...)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc (apt install gcc libc6-dev): %v\n%s", err, b)
	}
	return out
}

func files(oldPath, newPath string) (map[string]diff.Verdict, error) {
	got := make(map[string]diff.Verdict)
	err := Files(oldPath, newPath, "test", func(b *Build) error {
		got[b.Module] = b.Verdict
		return nil
	})
	return got, err
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	old := compile(t, dir, "old", "1", "-pie", "-fPIE")
	fixed := compile(t, dir, "fixed", "2", "-pie", "-fPIE")
	fixedAddress := compile(t, dir, "static1", "1", "-no-pie", "-fno-pie")
	fixedAddress2 := compile(t, dir, "static2", "2", "-no-pie", "-fno-pie")
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, new string
		want           map[string]diff.Verdict
		err            string
	}{
		{"a fix", old, fixed, map[string]diff.Verdict{"fixed": diff.Patchable}, ""},
		{"the same", old, old, map[string]diff.Verdict{"old": diff.Unchanged}, ""},
		{"fixed address", fixedAddress, fixedAddress2, map[string]diff.Verdict{"static2": diff.Refused}, ""},
		{"no ELF", old, text, nil, "neither an ELF file nor a .deb package"},
		{"no file", old, filepath.Join(dir, "none"), nil, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := files(c.old, c.new)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if d := cmp.Diff(c.want, got); d != "" || err != nil {
				t.Errorf("%v, (-want +got):\n%s", err, d)
			}
		})
	}
}

// pack makes a package that holds a program and a library under the name of its version.
func pack(t *testing.T, version, limit string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	compile(t, dir, "usr/bin/prog", limit, "-pie", "-fPIE")
	compile(t, dir, "usr/lib/libanswer.so.1."+version, limit, "-shared", "-fPIC", "-Wl,-soname,libanswer.so.1")
	control := "Package: answer\nVersion: " + version + "\nArchitecture: amd64\nMaintainer: nobody <nobody@localhost>\nDescription: answers\n"
	if err := os.MkdirAll(filepath.Join(dir, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "answer_"+version+".deb")
	if b, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", dir, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, b)
	}
	return out
}

// Of two packages every module pair goes in: by path, or by soname where the
// file's name carries the version.
func TestPackages(t *testing.T) {
	got, err := files(pack(t, "1", "1"), pack(t, "2", "2"))
	want := map[string]diff.Verdict{"prog": diff.Patchable, "libanswer.so.1": diff.Patchable}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, d)
	}
}

// The modules of one source package are one update; files that no package
// owns are one, too.
func TestGroup(t *testing.T) {
	mod := func(path, source string, s host.State) host.Module {
		return host.Module{Path: path, State: s, Package: host.Package{Source: source}}
	}
	n := group(&host.Proc{Modules: []host.Module{
		mod("/usr/sbin/nginx", "nginx", host.Outdated), mod("/lib/libssl", "openssl", host.Outdated),
		mod("/lib/libc", "glibc", host.Current), mod("/lib/libcrypto", "openssl", host.Outdated),
		mod("/opt/a", "", host.Outdated), mod("/opt/b", "", host.Outdated),
	}})
	got := make(map[string][]string)
	for _, u := range n.Updates {
		for _, m := range u.Modules {
			got[u.Source] = append(got[u.Source], m.Path)
		}
	}
	want := map[string][]string{
		"nginx": {"/usr/sbin/nginx"}, "openssl": {"/lib/libssl", "/lib/libcrypto"}, "": {"/opt/a", "/opt/b"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}
}

// An update is patched together or not at all.
func TestAllOrNothing(t *testing.T) {
	p := &patch.Patch{}
	u := Update{Builds: []*Build{{Verdict: diff.Patchable, Patch: p}, {Verdict: diff.Unchanged}}}
	if ps, ok := u.Patches(); !ok || !slices.Equal(ps, []*patch.Patch{p}) {
		t.Errorf("Patches: %v, %v", ps, ok)
	}
	u.Builds = append(u.Builds, &Build{Verdict: diff.Refused})
	if ps, ok := u.Patches(); ok || ps != nil {
		t.Errorf("with a refused module: %v, %v", ps, ok)
	}
}
