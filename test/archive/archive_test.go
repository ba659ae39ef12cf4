package archive

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUpgrade(t *testing.T) {
	root, fixed := t.TempDir(), t.TempDir()
	write := func(dir, name, text string) {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(root, "usr/lib/libx.so.1.0", "old")
	write(root, "usr/lib/gone", "old")
	write(fixed, "usr/lib/libx.so.1.1", "new")
	write(fixed, "usr/bin/x", "new")
	for dir, to := range map[string]string{root: "libx.so.1.0", fixed: "libx.so.1.1"} {
		if err := os.Symlink(to, filepath.Join(dir, "usr/lib/libx.so.1")); err != nil {
			t.Fatal(err)
		}
	}
	// Who has the old file open keeps it: that is the point of a rename.
	old, err := os.Open(filepath.Join(root, "usr/lib/libx.so.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := Upgrade(root, fixed); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"usr/lib/libx.so.1.0", "usr/lib/gone", "usr/lib/libx.so.1", "usr/lib/libx.so.1.1", "usr/bin/x"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			got[name] = string(text)
		}
	}
	want := map[string]string{"usr/lib/libx.so.1": "new", "usr/lib/libx.so.1.1": "new", "usr/bin/x": "new"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files after the upgrade (-want +got):\n%s", d)
	}
	text := make([]byte, 3)
	if _, err := old.Read(text); err != nil || string(text) != "old" {
		t.Errorf("the file opened before the upgrade: %q, %v", text, err)
	}
}

func TestLibraryDirs(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "lib/x86_64-linux-gnu")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "libx.so.1"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{dir}, LibraryDirs(t.TempDir(), root)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
