package diff_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
)

// TestTexts: what reasons of data say is so, and said once of each object.
func TestTexts(t *testing.T) {
	const table = `
#ifdef FIXED
#define LONGS 24
#else
#define LONGS 40
#endif
static long table[LONGS], last;
__attribute__((noipa)) static long *find(long i) { return &table[i % LONGS]; }
__attribute__((noipa)) void put(long i) { *find(i) = i; last = i; }
__attribute__((noipa)) long get(long i) { return *find(i) + last; }
`
	const swapped = `
#ifdef FIXED
#define X y
#define Y x
#else
#define X x
#define Y y
#endif
static volatile long x, y;
void f1(void) { x++; }
void f2(void) { y += 2; }
void f3(void) { X += 3; }
void f4(void) { Y += 4; }
`
	disagree := `^references disagree where the fixed build has what the baseline has at (0x[0-9a-f]+): at 0x[0-9a-f]+ or at 0x[0-9a-f]+$`
	for _, c := range []struct {
		name, source string
		back         bool // from the fixed build
		code         diff.Code
		want         string
		reasons      int
	}{
		{"shrunk", table, false, diff.DataLayout, `^320 bytes up to the next known object become 192: it shrank, or what followed it is gone or not referred to any more$`, 1},
		{"grown", table, true, diff.DataLayout, `^192 bytes up to the next known object become 320: it grew, or something new follows it$`, 1},
		{"disagreement", swapped, false, diff.ConflictingPairs, disagree, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := filepath.Join(t.TempDir(), "a.c")
			if err := os.WriteFile(src, []byte(c.source), 0o600); err != nil {
				t.Fatal(err)
			}
			old := buildtest.Compile(t, "gcc", "-O2", "-fPIC", "-shared", src).Stripped
			fixed := buildtest.Compile(t, "gcc", "-O2", "-fPIC", "-shared", "-DFIXED", src).Stripped
			if c.back {
				old, fixed = fixed, old
			}
			r, err := diff.Compare(old, fixed)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, why := range r.Reasons {
				if why.Code == c.code {
					if n++; !regexp.MustCompile(c.want).MatchString(why.Detail) {
						t.Errorf("%s, want %s", why.Detail, c.want)
					}
				}
			}
			if n != c.reasons {
				t.Errorf("%d reasons, want %d: %v", n, c.reasons, r.Reasons)
			}
		})
	}
}
