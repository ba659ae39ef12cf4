package cfi

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// An interp is one FDE or CIE as readelf interprets it.
type interp struct {
	off        int
	cie        *interp // nil: it is one itself
	start, end uint64
	cols       []int // registers in the columns after the CFA, -1 for one that Row leaves out
	rows       []interpRow
}

type interpRow struct {
	loc  uint64
	text []string // the CFA, then one per column
}

// fdeLine matches the head of an FDE: offset, length, CIE pointer, CIE, range; cieLine that of a CIE.
var (
	fdeLine = regexp.MustCompile(`^([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ FDE cie=([0-9a-f]+) pc=([0-9a-f]+)\.\.([0-9a-f]+)`)
	cieLine = regexp.MustCompile(`^([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ CIE `)
)

// otherRegister matches a register that is in another one: "r3 (rbx)".
var otherRegister = regexp.MustCompile(`r[0-9]+ \(([a-z0-9]+)\)`)

var registerNames = []string{
	"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ra",
}

func hex(t testing.TB, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// readelf returns the rows of a file's .eh_frame as readelf sees them. What it
// prints has these peculiarities: an FDE whose instructions set nothing has no
// rows at all (that of its CIE holds); only registers that the FDE or its CIE mention have columns;
// "u" stands for no rule and for DW_CFA_undefined alike; two rows at one
// address come from an advance by zero, and the last is in force. Without
// no-follow-links it turns to the separate debug file, where there is one, whose
// .eh_frame is empty.
func readelf(t testing.TB, path string) []*interp {
	t.Helper()
	cmd := exec.Command(tool(t, "readelf", "binutils"), "-W", "--debug-dump=frames-interp,no-follow-links", path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all []*interp
	cies := map[int]*interp{}
	var cur *interp
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := otherRegister.ReplaceAllString(sc.Text(), "$1")
		fields := strings.Fields(line)
		if m := cieLine.FindStringSubmatch(line); m != nil {
			cur = &interp{off: int(hex(t, m[1]))}
			cies[cur.off] = cur
			continue
		}
		if m := fdeLine.FindStringSubmatch(line); m != nil {
			cur = &interp{off: int(hex(t, m[1])), cie: cies[int(hex(t, m[2]))], start: hex(t, m[3]), end: hex(t, m[4])}
			all = append(all, cur)
			continue
		}
		if len(fields) < 2 || cur == nil {
			if len(fields) == 0 {
				cur = nil
			}
			continue
		}
		if fields[0] == "LOC" {
			for _, name := range fields[2:] {
				cur.cols = append(cur.cols, column(t, name))
			}
			continue
		}
		cur.rows = append(cur.rows, interpRow{hex(t, fields[0]), fields[1:]})
	}
	if err := cmd.Wait(); err != nil || sc.Err() != nil || stderr.Len() > 0 {
		t.Fatalf("readelf %s: %v, %v: %s", path, err, sc.Err(), &stderr)
	}
	return all
}

func column(t testing.TB, name string) int {
	t.Helper()
	for i, n := range registerNames {
		if n == name {
			return i
		}
	}
	if !strings.HasPrefix(name, "xmm") {
		t.Fatalf("readelf names a register %q", name)
	}
	return -1
}

// text writes a rule as readelf does.
func (r Rule) text() string {
	switch r.Kind {
	case Unset, Undefined:
		return "u"
	case Same:
		return "s"
	case Offset:
		return fmt.Sprintf("c%+d", r.Off)
	case ValOffset:
		return fmt.Sprintf("v%+d", r.Off)
	case Register:
		return registerNames[r.Reg]
	case Expr:
		return "exp"
	}
	return "vexp"
}

func (r Rule) cfaText() string {
	if r.Kind == ValExpr {
		return "exp"
	}
	return fmt.Sprintf("%s%+d", registerNames[r.Reg], r.Off)
}

// compareRows compares every row of every FDE with readelf's and returns how many there were.
func compareRows(t *testing.T, tab *Table, want []*interp) int {
	t.Helper()
	byOff := map[int]*FDE{}
	for i := range tab.FDEs {
		byOff[tab.FDEs[i].Off] = &tab.FDEs[i]
	}
	rows, diffs, covering := 0, 0, 0
	differ := func(format string, args ...any) {
		if diffs++; diffs <= 20 {
			t.Errorf(format, args...)
		}
	}
	for _, w := range want {
		if w.start == w.end {
			continue
		}
		covering++
		f := byOff[w.off]
		if f == nil || f.Start != w.start || f.End != w.end {
			differ("FDE at %#x: got %+v, want %#x..%#x", w.off, f, w.start, w.end)
			continue
		}
		if len(w.rows) == 0 {
			w.rows = []interpRow{{w.start, w.cie.rows[0].text}}
			w.cols = w.cie.cols
		}
		for i, wr := range w.rows {
			next := f.End
			if i+1 < len(w.rows) {
				next = w.rows[i+1].loc
			}
			if wr.loc == next || wr.loc >= f.End {
				continue
			}
			// The row holds up to the byte before the next one.
			for _, pc := range []uint64{wr.loc, next - 1} {
				rows++
				r, err := f.Row(pc)
				if err != nil {
					differ("FDE at %#x: %v", w.off, err)
					continue
				}
				if got, want := rowText(&r, w.cols), wr.known(w.cols); got != want {
					differ("FDE at %#x, row at %#x: got %s, want %s", w.off, pc, got, want)
				}
			}
		}
	}
	if covering != len(tab.FDEs) {
		differ("got %d FDEs, want %d", len(tab.FDEs), covering)
	}
	if diffs > 0 {
		t.Errorf("%d differences", diffs)
	}
	return rows
}

// known is the row's text without the columns that Row leaves out.
func (r *interpRow) known(cols []int) string {
	text := r.text[:1:1]
	for i, s := range r.text[1:] {
		if cols[i] >= 0 {
			text = append(text, s)
		}
	}
	return strings.Join(text, " ")
}

// rowText writes the CFA and the columns; then, as a difference, any register
// with a rule that has no column.
func rowText(r *Row, cols []int) string {
	text := []string{r.CFA.cfaText()}
	shown := map[int]bool{}
	for _, i := range cols {
		if i < 0 {
			continue
		}
		shown[i] = true
		text = append(text, r.Regs[i].text())
	}
	for i, rule := range r.Regs {
		if !shown[i] && rule.Kind != Unset {
			text = append(text, registerNames[i]+"="+rule.text())
		}
	}
	return strings.Join(text, " ")
}

func TestRowsAgainstReadelf(t *testing.T) {
	for _, l := range systemLibraries {
		t.Run(filepath.Base(l.path), func(t *testing.T) {
			tab := library(t, l.path, l.pkg)
			rows := compareRows(t, tab, readelf(t, l.path))
			if rows == 0 {
				t.Error("no rows compared")
			}
			t.Logf("%d FDEs, %d rows", len(tab.FDEs), rows)
		})
	}
}
