package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// guarded are the process's mappings of a file that can be executed, and the
// pages of an overlay, which are writable for nobody.
func guarded(t *testing.T, e *Engine, g *target) (out []process.Range) {
	t.Helper()
	p, err := process.Open(g.pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rec, err := e.Status(g.pid())
	if err != nil {
		t.Fatal(err)
	}
	maps, err := p.Maps()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if m.Prot&process.Write != 0 && m.Prot&process.Exec != 0 {
			t.Errorf("%v is writable and executable", m)
		}
		if m.Prot&process.Write != 0 || m.Prot&process.Read == 0 {
			continue
		}
		for _, u := range rec.Units {
			inOverlay := m.Start >= u.Start && m.End <= u.End
			if inOverlay || m.Path == u.Path && m.Prot&process.Exec != 0 {
				out = append(out, m.Range)
			}
		}
		if f := rec.Finder; f.Page == m.Start {
			out = append(out, m.Range)
		}
	}
	return out
}

// Any single byte that somebody changes in the module's code, the entries, the
// overlay, its constants, tables and header, retired code, or the finder, is found.
func TestFlips(t *testing.T) {
	prog, p := pair(t, "server.c")
	g := run(t, prog, "2")
	e := engine(t, Options{Retire: true, Level: Strict})
	r := e.Apply(g.pid(), []*patch.Patch{p})
	wantState(t, r, Patched)
	if !r.Retired {
		t.Fatal("not retired")
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", g.pid()), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	ranges := guarded(t, e, g)
	if len(ranges) < 4 { // code, overlay code, constants, finder
		t.Fatalf("ranges %v", ranges)
	}
	missed := 0
	const flips = 1000
	for i := range flips {
		rg := ranges[i%len(ranges)]
		at := int64(rg.Start) + rng.Int64N(int64(rg.End-rg.Start))
		var b [1]byte
		if _, err := mem.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		other := []byte{b[0] ^ 1<<rng.IntN(8)}
		if _, err := mem.WriteAt(other, at); err != nil {
			t.Fatal(err)
		}
		if r := e.Verify(g.pid()); r.State != Tampered {
			missed++
			t.Errorf("%02x for %02x at %#x in %v is not found: %s %v", other, b, at, rg, r.State, r.Reasons)
		}
		if _, err := mem.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		if missed > 10 {
			break
		}
	}
	wantState(t, e.Verify(g.pid()), Verified)
	g.want("v", newSum)
}

// Retired code is gone from memory, comes back with a rollback, and with a
// later patch too.
func TestRetire(t *testing.T) {
	prog, p1 := pair(t, "server.c")
	_, p2 := pairTo(t, "server.c", 2)
	g := run(t, prog, "4", "busy")
	e := engine(t, Options{Retire: true})
	before := textOf(t, g)
	for range 3 {
		r := e.Apply(g.pid(), []*patch.Patch{p1})
		wantState(t, r, Patched)
		if !r.Retired || r.Level != Strict {
			t.Fatalf("retired %t, level %s", r.Retired, r.Level)
		}
		g.want("v", newSum)
		gone := textOf(t, g)
		for _, o := range p1.Old {
			mid := (o.Ranges[0].Start + o.Ranges[0].End) / 2
			steered := slices.ContainsFunc(p1.Steers, func(s patch.Steer) bool { return o.Ranges[0].Contains(s.At) })
			if b := gone[mid]; steered != (b == int3) {
				t.Errorf("steered %t, in the middle of %s is %02x", steered, o.Name, b)
			}
		}
		wantState(t, e.Verify(g.pid()), Verified)
		wantState(t, e.Apply(g.pid(), []*patch.Patch{p2}), Patched)
		g.want("v", "24500")
		wantState(t, e.Verify(g.pid()), Verified)
		wantState(t, e.Revert(g.pid(), nil), Removed)
		g.want("v", newSum)
		wantState(t, e.Verify(g.pid()), Verified)
		wantState(t, e.Remove(g.pid(), nil), Removed)
		g.want("v", oldSum)
		if !bytes.Equal(before, textOf(t, g)) {
			t.Error("code is not what it was")
		}
	}
	// With a thread inside nothing is retired.
	g.want("p", "parked")
	p1.EntryAllowed = true
	r := engine(t, Options{Retire: true, Level: Entry, Store: e.opts.Store}).Apply(g.pid(), []*patch.Patch{p1})
	wantState(t, r, Patched)
	if r.Retired {
		t.Error("retired with a thread inside")
	}
	g.want("r", "1")
}

// textOf is the program's memory from its start to the end of its code.
func textOf(t *testing.T, g *target) []byte {
	t.Helper()
	p, err := process.Open(g.pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	mods, err := p.Modules()
	if err != nil {
		t.Fatal(err)
	}
	m := mods[slices.IndexFunc(mods, func(m process.Module) bool { return m.Maps[0].Inode != 0 })]
	for i := range mods {
		if exe, _ := p.Exe(); mods[i].Path == exe {
			m = mods[i]
		}
	}
	var end process.Addr
	for _, mm := range m.Maps {
		if mm.Prot&process.Exec != 0 {
			end = mm.End
		}
	}
	b := make([]byte, end-m.Bias)
	if err := p.Read(m.Bias, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// A sealed overlay can be neither unmapped nor replaced, and everything else
// goes on as usual.
func TestSeal(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	prog, p := pair(t, "server.c")
	g := run(t, prog, "2")
	e := engine(t, Options{Seal: true})
	for i := range 2 {
		r := e.Apply(g.pid(), []*patch.Patch{p})
		wantState(t, r, Patched)
		if !r.Sealed {
			t.Fatalf("not sealed on Linux %s: %v", unix.ByteSliceToString(u.Release[:]), r.Reasons)
		}
		wantState(t, e.Verify(g.pid()), Verified)
		g.want("v", newSum)
		r = e.Remove(g.pid(), nil)
		wantState(t, r, Removed)
		if want := int64(i + 1); r.Left < want*page {
			t.Errorf("%d bytes left", r.Left)
		}
		g.want("v", oldSum)
	}
}
