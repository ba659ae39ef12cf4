package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// TestLies: programs that forge what is read of them, or change it meanwhile,
// are patched all the same or get a typed reason, within bounded time, and then
// do what they did before.
func TestLies(t *testing.T) {
	prog, p := pair(t, "hostile.c")
	for how, want := range map[string][]Code{ // none: it has to work
		"":           nil,
		"remap":      nil,
		"lists":      nil,
		"maps":       nil,
		"flip":       {EntryChanged}, // or it was as it should be, each time that it was looked at
		"moved":      {NoModule},
		"endless":    {NoModule},
		"forged":     {Conflict},
		"manyforged": {TooLarge},
		"modules":    {TooLarge},
	} {
		t.Run("how"+how, func(t *testing.T) {
			g := run(t, prog, how)
			began := time.Now()
			e := engine(t, Options{Budget: 50 * time.Millisecond, Deadline: 3 * time.Second})
			r := e.Apply(g.pid(), []*patch.Patch{p})
			t.Logf("%s after %v: %+v", r.State, time.Since(began), r.Reasons)
			if time.Since(began) > time.Minute {
				t.Errorf("it took %v", time.Since(began))
			}
			if want == nil || how == "flip" && r.State == Patched {
				wantState(t, r, Patched)
				g.want("v", "2008")
				if how != "flip" {
					wantState(t, e.Verify(g.pid()), Verified)
				}
				wantState(t, e.Remove(g.pid(), nil), Removed)
			} else if len(r.Reasons) != 1 || !slices.Contains(want, r.Reasons[0].Code) {
				t.Errorf("%s, want one of %v", r.State, want)
			}
			g.want("v", "9")
			if b, err := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/status"); err != nil || !strings.Contains(string(b), "TracerPid:\t0\n") {
				t.Errorf("it is still traced: %v", err)
			}
		})
	}
}

// TestForgedPatch: a patch file that steers where the baseline's file is not
// what the patch says, or wants other bytes back, changes nothing.
func TestForgedPatch(t *testing.T) {
	prog, good := pair(t, "hostile.c")
	for name, forge := range map[string]func(p *patch.Patch){
		"digest of other code": func(p *patch.Patch) { p.Old[0].Digest[0] ^= 1 },
		"other old bytes":      func(p *patch.Patch) { p.Steers[0].Old[1] ^= 1 },
		"far pieces":           func(p *patch.Patch) { p.Pieces[len(p.Pieces)-1].Addr += 1 << 39 },
	} {
		t.Run(name, func(t *testing.T) {
			g := run(t, prog)
			b, err := good.Encode()
			if err != nil {
				t.Fatal(err)
			}
			p, err := patch.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			forge(p)
			if b, err = p.Encode(); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
			if err != nil {
				t.Fatal(err)
			}
			p, err = patch.Read(b)
			if err == nil {
				r := engine(t, Options{}).Apply(g.pid(), []*patch.Patch{p})
				wantState(t, r, Refused)
				if c := r.Reasons[0].Code; c != BadPatch && c != NoGap {
					t.Errorf("reason %+v", r.Reasons)
				}
			} else if !errors.Is(err, patch.ErrFormat) {
				t.Error(err)
			}
			after, err := os.ReadFile("/proc/" + strconv.Itoa(g.pid()) + "/maps")
			if err != nil || string(before) != string(after) {
				t.Errorf("its mappings changed: %v", err)
			}
			g.want("v", "9")
		})
	}
}

// TestAnotherProcess: what was meant for a process is not done to another one
// that has its number.
func TestAnotherProcess(t *testing.T) {
	prog, p := pair(t, "hostile.c")
	g := run(t, prog)
	proc, err := process.Open(g.pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	id := proc.ID
	proc.Close()
	id.Start++
	e := engine(t, Options{})
	wantState(t, e.one(Request{Op: OpApply}, Target{Pid: id.Pid, Start: id.Start, Patches: []string{savePatch(t, p)}}), Exited)
	g.want("v", "9")
}

// TestStoreIsOurs: a store that others can enter, or own, or that a link leads
// to, is not used.
func TestStoreIsOurs(t *testing.T) {
	dir := t.TempDir()
	for name, act := range map[string]func(at string) error{
		"open to a group": func(at string) error { return errors.Join(os.Mkdir(at, 0o700), os.Chmod(at, 0o770)) },
		"to be read":      func(at string) error { return errors.Join(os.Mkdir(at, 0o700), os.Chmod(at, 0o705)) },
		"a link":          func(at string) error { return errors.Join(os.Mkdir(at+".real", 0o700), os.Symlink(at+".real", at)) },
		"of another":      func(at string) error { return errors.Join(os.Mkdir(at, 0o700), os.Chown(at, os.Getuid()+1, -1)) },
	} {
		at := filepath.Join(dir, name)
		if err := act(at); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenStore(at); err == nil {
			t.Errorf("a store that is %s is used", name)
		}
	}
	if _, err := OpenStore(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
}
