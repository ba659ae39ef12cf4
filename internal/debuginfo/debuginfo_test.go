package debuginfo_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hotpatch/internal/debuginfo"
	"hotpatch/internal/module"
)

const source = `struct s { int a;
#ifdef SWAP
int c, b;
#else
int b, c;
#endif
};
int fix(struct s *s) { return s->a; }
`

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// builds are two builds with debug information.
func builds(t testing.TB, options ...string) (old, new string) {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "s.c")
	if err := os.WriteFile(src, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	old, new = filepath.Join(dir, "old.so"), filepath.Join(dir, "new.so")
	args := append([]string{"-O2", "-g", "-fPIC", "-shared", "-Wl,--build-id", src}, options...)
	run(t, "gcc", append(args, "-o", old)...)
	run(t, "gcc", append(args, "-DSWAP", "-o", new)...)
	return old, new
}

func open(t testing.TB, path string) *module.Module {
	t.Helper()
	m, err := module.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// swapped finds the debug information of both and reports whether it tells
// that two fields changed places.
func swapped(t *testing.T, p debuginfo.Places, old, new string) bool {
	t.Helper()
	a, b := open(t, old), open(t, new)
	x, err := p.Find(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := p.Find(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := debuginfo.Compare(x, y, []debuginfo.Use{{Name: "fix", Old: uint64(entry(t, a)), New: uint64(entry(t, b))}})
	if err != nil {
		t.Fatal(err)
	}
	return len(r) == 1 && r[0].Kind == debuginfo.Moved && r[0].Name == "struct s"
}

func entry(t *testing.T, m *module.Module) module.Addr {
	t.Helper()
	for _, s := range m.Symbols {
		if s.Name == "fix" && s.Defined {
			return s.Addr
		}
	}
	t.Fatal("no function fix")
	return 0
}

// separate moves the debug information of a build to another file.
func separate(t *testing.T, path, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "objcopy", "--only-keep-debug", path, to)
	run(t, "strip", path)
}

func byID(root string, t *testing.T, path string) string {
	id := open(t, path).Identity.BuildID
	return filepath.Join(root, ".build-id", id[:2], id[2:]+".debug")
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options []string
		place   func(t *testing.T, path string) debuginfo.Places
	}{
		{"in the file", nil, func(*testing.T, string) debuginfo.Places { return debuginfo.Places{} }},
		{"compressed", []string{"-gz"}, func(*testing.T, string) debuginfo.Places { return debuginfo.Places{} }},
		{"DWARF 4", []string{"-gdwarf-4"}, func(*testing.T, string) debuginfo.Places { return debuginfo.Places{} }},
		{"type units", []string{"-gdwarf-5", "-fdebug-types-section"}, func(*testing.T, string) debuginfo.Places { return debuginfo.Places{} }},
		{"build-id", nil, func(t *testing.T, path string) debuginfo.Places {
			root := filepath.Join(filepath.Dir(path), "debug")
			separate(t, path, byID(root, t, path))
			return debuginfo.Places{Root: root}
		}},
		{"link", nil, func(t *testing.T, path string) debuginfo.Places {
			to := filepath.Join(filepath.Dir(path), ".debug", filepath.Base(path)+".debug")
			separate(t, path, to)
			run(t, "objcopy", "--add-gnu-debuglink="+to, path)
			return debuginfo.Places{Root: "/nowhere"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old, new := builds(t, tt.options...)
			tt.place(t, old)
			if !swapped(t, tt.place(t, new), old, new) {
				t.Error("that two fields changed places was not found")
			}
		})
	}
}

func TestFindOnServer(t *testing.T) {
	old, new := builds(t)
	root := t.TempDir()
	for _, path := range []string{old, new} {
		separate(t, path, byID(root, t, path))
	}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		id := strings.Split(r.URL.Path, "/")[2]
		http.ServeFile(w, r, filepath.Join(root, ".build-id", id[:2], id[2:]+".debug"))
	}))
	defer server.Close()
	if !swapped(t, debuginfo.Places{Servers: []string{server.URL}, Timeout: 10 * time.Second}, old, new) || asked != 2 {
		t.Errorf("not found on the server, asked %d times", asked)
	}
	if _, err := (debuginfo.Places{}).Find(t.Context(), open(t, old)); !errors.Is(err, debuginfo.ErrNone) {
		t.Errorf("without a server: %v, want %v", err, debuginfo.ErrNone)
	}
	// A server that never answers is given up; an answer for another build is none.
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer slow.Close()
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, byID(root, t, new)) }))
	defer wrong.Close()
	p := debuginfo.Places{Servers: []string{slow.URL, wrong.URL}, Timeout: 50 * time.Millisecond}
	if _, err := p.Find(t.Context(), open(t, old)); !errors.Is(err, debuginfo.ErrNone) {
		t.Errorf("slow or wrong server: %v, want %v", err, debuginfo.ErrNone)
	}
}

// TestFindRefusesOthers: a separate file of another build is not believed.
func TestFindRefusesOthers(t *testing.T) {
	old, new := builds(t)
	root := t.TempDir()
	want := byID(root, t, old)
	separate(t, new, want)
	run(t, "strip", old)
	if _, err := (debuginfo.Places{Root: root}).Find(t.Context(), open(t, old)); !errors.Is(err, debuginfo.ErrNone) {
		t.Errorf("error %v, want %v", err, debuginfo.ErrNone)
	}
}

// TestAlternate follows references into the file of .gnu_debugaltlink.
func TestAlternate(t *testing.T) {
	var files [2]string
	for i, size := range []string{"8", "16"} {
		dir := t.TempDir()
		alt, link := filepath.Join(dir, "alt.o"), filepath.Join(dir, "link")
		run(t, "gcc", "-c", "-Wa,--defsym,SIZE="+size, "-o", alt, "testdata/alt.s")
		n := map[string]byte{"8": 8, "16": 16}[size]
		if err := os.WriteFile(link, append([]byte("alt.o\x00"), 1, 2, 3, 4, 5, 6, 7, n), 0o600); err != nil {
			t.Fatal(err)
		}
		files[i] = filepath.Join(dir, "main.so")
		run(t, "gcc", "-shared", "-Wa,--defsym,struct_at=12", "-o", files[i], "testdata/main.s")
		run(t, "objcopy", "--add-section", ".gnu_debugaltlink="+link, files[i])
	}
	compare := func(a, b string) []debuginfo.Finding {
		t.Helper()
		x, y := open(t, a), open(t, b)
		i, err := debuginfo.Places{}.Find(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		j, err := debuginfo.Places{}.Find(t.Context(), y)
		if err != nil {
			t.Fatal(err)
		}
		r, err := debuginfo.Compare(i, j, []debuginfo.Use{{Name: "fix", Old: uint64(entry(t, x)), New: uint64(entry(t, y))}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := []debuginfo.Finding{{Kind: debuginfo.Moved, Name: "struct pair", Detail: "has 8 bytes and 16 in the fixed build"}}
	got := compare(files[0], files[1])
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got := compare(files[0], files[0]); len(got) > 0 {
		t.Errorf("compared with itself: %v", got)
	}
}

func FuzzRead(f *testing.F) {
	old, new := builds(f, "-gz=none")
	for _, path := range []string{old, new} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint64(0x1000))
	}
	f.Fuzz(func(t *testing.T, data []byte, entry uint64) {
		if len(data) > 1<<20 {
			return
		}
		i, err := debuginfo.Read(data, data)
		if err != nil {
			return
		}
		_, err = debuginfo.Compare(i, i, []debuginfo.Use{{Name: "f", Old: entry, New: entry, Exported: true}})
		if err != nil && !errors.Is(err, debuginfo.ErrTooMuch) {
			t.Error(err)
		}
	})
}

// TestOpen: the build says what is looked for, and whoever opens it says what
// may be read. A pipe in its place is left alone.
func TestOpen(t *testing.T) {
	path, _ := builds(t)
	places := []string{filepath.Join(filepath.Dir(path), "old.so.debug"), filepath.Join(filepath.Dir(path), ".debug/old.so.debug")}
	separate(t, path, places[1])
	run(t, "objcopy", "--add-gnu-debuglink="+places[1], path)
	m := open(t, path)
	var asked []string
	p := debuginfo.Places{Root: "/debug", Open: func(path string) (*os.File, error) {
		asked = append(asked, path)
		return nil, os.ErrPermission
	}}
	if _, err := p.Find(t.Context(), m); !errors.Is(err, debuginfo.ErrNone) {
		t.Errorf("what must not be opened was found: %v", err)
	}
	want := append([]string{byID("/debug", t, path)}, append(places, "/debug"+places[0])...)
	if d := cmp.Diff(want, asked); d != "" {
		t.Errorf("asked for (-want +got):\n%s", d)
	}
	for _, place := range places {
		if err := errors.Join(os.RemoveAll(place), syscall.Mkfifo(place, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (debuginfo.Places{}).Find(t.Context(), m); !errors.Is(err, debuginfo.ErrNone) {
		t.Errorf("pipes: %v", err)
	}
}
