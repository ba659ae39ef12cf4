package host

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseMaps(t *testing.T) {
	const text = `00400000-0040b000 r-xp 00000000 fe:00 48                                 /usr/bin/a b
0060a000-0060b000 r-xp 0000a000 fe:00 48                                 /usr/bin/a b
0060b000-0060c000 rw-p 0000b000 fe:00 49                                 /usr/bin/data
7f0000000000-7f0000001000 r-xp 00000000 fe:00 50                         /x\012y (deleted)
7f0000002000-7f0000003000 r-xp 00000000 00:01 51                         /memfd:jit (deleted)
7f0000004000-7f0000005000 rwxs 00000000 00:01 52                         /SYSV00000000 (deleted)
7f0000006000-7f0000007000 rwxp 00000000 00:00 0
7f0000008000-7f0000009000 r-xp 00000000 00:00 0                          [vdso]
7f0000010000-7f0000011000 r--p 00000000 fe:00 53                         /usr/lib/copied.so
7f0000011000-7f0000013000 r-xp 00000000 00:00 0
7f0000013000-7f0000014000 r--p 00003000 fe:00 53                         /usr/lib/copied.so
7f0000020000-7f0000021000 r--p 00000000 fe:00 54                         /usr/share/data-before-code
7f0000021000-7f0000022000 r-xp 00000000 00:00 0
7f0000030000-7f0000031000 r--p 00000000 fe:00 55                         /usr/share/data-apart-from-code
7f0000032000-7f0000033000 r-xp 00000000 00:00 0
7f0000033000-7f0000034000 r--p 00003000 fe:00 55                         /usr/share/data-apart-from-code
7f0000040000-7f0000041000 r--p 00000000 fe:00 56                         /usr/lib/partly-copied.so
7f0000041000-7f0000042000 r-xp 00000000 00:00 0
7f0000042000-7f0000043000 r-xp 00002000 fe:00 56                         /usr/lib/partly-copied.so
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`
	got, err := parseMaps(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{
		{"400000-40b000", "/usr/bin/a b", false},
		{"7f0000000000-7f0000001000", "/x\ny", true},
		{"7f0000010000-7f0000011000", "/usr/lib/copied.so", false},
		{"7f0000042000-7f0000043000", "/usr/lib/partly-copied.so", false},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"x\n", "1-2 r-x\n", "2-1 r-xp 0 0:0 1 /a\n", "../x-1 r-xp 0 0:0 1 /a\n", "1-2 r-xp 0\n", strings.Repeat("a", 1<<17)} {
		if _, err := parseMaps(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q is read without an error", bad)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add("00400000-0040b000 r-xp 00000000 fe:00 48   /usr/bin/a\n")
	f.Add("1-2 r-xp 0 0:0 1 /a (deleted)\n")
	f.Fuzz(func(t *testing.T, text string) {
		maps, err := parseMaps(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, m := range maps {
			if name, ok := rangeName(m.name); !ok || name != m.name || !strings.HasPrefix(m.path, "/") {
				t.Errorf("mapping %+v", m)
			}
		}
	})
}

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456 1 2 3"
	for name, tc := range map[string]struct {
		text string
		want stat
	}{
		"plain":  {"42 (bash)" + tail, stat{"bash", 'S', 1, 4194560, 3, 123456}},
		"blanks": {"42 (a ) S (b)" + tail, stat{"a ) S (b", 'S', 1, 4194560, 3, 123456}},
	} {
		got, err := parseStat(tc.text)
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(stat{})); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	for _, bad := range []string{"", "42", ")(", "42 (x)", "42 (x) S 1 2", "42 (x)" + strings.Replace(tail, "123456", "-1", 1)} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is read without an error", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (bash) S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 123456 1 2 3")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseStat(text); err == nil && !strings.Contains(text, "("+s.comm+")") {
			t.Errorf("name %q", s.comm)
		}
	})
}

func TestContainer(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for text, want := range map[string]string{
		"0::/\n": "",
		"0::/system.slice/docker-" + id + ".scope\n":                    id,
		"12:cpu:/docker/" + id + "\n":                                   id,
		"0::/kubepods.slice/pod1.slice/cri-containerd-" + id + ".scope": id,
		"0::/lxc.payload.web/init.scope\n":                              "web",
		"0::/machine.slice/machine-web.scope\n":                         "web",
		"0::/user.slice/user-0.slice/session-1.scope\n":                 "",
	} {
		if got := container(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

const dpkgLog = `2026-03-01 10:00:00 startup archives unpack
2026-03-01 10:00:00 install libx:amd64 <none> 1
2026-03-01 10:00:01 status installed libx:amd64 1
2026-04-01 10:00:00 upgrade libx:amd64 1 2
2026-04-01 10:00:00 status half-installed libx:amd64 1
2026-04-01 10:00:00 upgrade other:amd64 7 8
2026-04-01 10:00:09 status unpacked libx:amd64 2
2026-04-01 10:05:00 configure libx:amd64 2 <none>
2026-04-01 10:05:00 status installed libx:amd64 2
nonsense
2026-05-01 10:00:00 upgrade libx:amd64 2 3
2026-05-01 10:00:01 status unpacked libx:amd64 3
2026-05-01 10:00:00 upgrade libx:i386 2 3
2026-06-01 10:00:00 remove libx:amd64 3 <none>
2026-06-01 10:00:01 status not-installed libx:amd64 <none>
`

func TestRunningVersion(t *testing.T) {
	p := logParser{zone: time.UTC, open: make(map[string]int)}
	for line := range strings.Lines(dpkgLog) {
		p.line(line)
	}
	at := func(text string) time.Time {
		if text == "" {
			return time.Time{}
		}
		v, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	pkg := Package{Name: "libx", Arch: "amd64"}
	for _, tc := range []struct{ name, start, replaced, want string }{
		{"at the first upgrade", "2026-03-15 00:00:00", "2026-04-01 10:00:05", "1"},
		{"at the second", "2026-03-15 00:00:00", "2026-05-01 10:00:01", "2"},
		{"at the removal", "2026-03-15 00:00:00", "2026-06-01 10:00:00", "3"},
		{"between, by hand", "2026-03-15 00:00:00", "2026-04-15 00:00:00", ""},
		{"while it was only configured", "2026-03-15 00:00:00", "2026-04-01 10:05:00", ""},
		{"one since the start", "2026-05-02 00:00:00", "", "3"},
		{"in the second of the start", "2026-06-01 10:00:00", "", "3"},
		{"several since the start", "2026-03-15 00:00:00", "", ""},
		{"none since the start", "2026-07-01 00:00:00", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, why := runningVersion(p.events, pkg, at(tc.start), at(tc.replaced))
			if got != tc.want || why == "" {
				t.Errorf("%q (%s), want %q", got, why, tc.want)
			}
		})
	}
}

func FuzzLog(f *testing.F) {
	f.Add(dpkgLog)
	f.Fuzz(func(t *testing.T, text string) {
		p := logParser{zone: time.UTC, open: make(map[string]int)}
		for line := range strings.Lines(text) {
			p.line(line)
		}
		for _, e := range p.events {
			runningVersion(p.events, Package{Name: e.pkg}, e.begin, e.end)
		}
	})
}
