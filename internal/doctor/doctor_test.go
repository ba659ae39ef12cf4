package doctor

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestMain turns the test binary into a program that looks.
func TestMain(m *testing.M) {
	if store := os.Getenv("DOCTOR_STORE"); store != "" {
		if err := json.NewEncoder(os.Stdout).Encode(Look(store)); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// look runs Look as a user.
func look(t *testing.T, uid uint32, store string) map[string]Check {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "DOCTOR_STORE="+store)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var checks []Check
	if err := json.Unmarshal(out, &checks); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	byName := make(map[string]Check)
	for _, c := range checks {
		if byName[c.Name].Name != "" {
			t.Errorf("%s is checked twice", c.Name)
		}
		byName[c.Name] = c
		if c.State == Fails && c.Detail == "" {
			t.Errorf("%s fails, and nothing says why", c.Name)
		}
	}
	return byName
}

const (
	mapFiles = "open the files that it has mapped: /proc/PID/map_files"
	stops    = "stop a thread: PTRACE_SEIZE, PTRACE_INTERRUPT"
	writes   = "write to code of a stopped thread"
)

// TestRoot: where the other tests patch processes, nothing that is needed fails.
func TestRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to trace processes")
	}
	dir := t.TempDir()
	got := look(t, 0, dir+"/store/new")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v (%v)", left, err)
	}
	if c := records("/tmp"); c.State != Fails {
		t.Errorf("a folder that others can enter: %+v", c)
	}
	for name, c := range got {
		if c.State == Fails {
			t.Errorf("%s: %s", name, c.Detail)
		}
	}
	for _, name := range []string{"kernel", mapFiles, stops, writes, "capabilities", "records"} {
		if got[name].State != Works {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
}

// TestNobody: without rights, those are named and nothing else is blamed.
func TestNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	const nobody = 65534
	got := look(t, nobody, t.TempDir()+"/store")
	for _, name := range []string{mapFiles, "capabilities", "records"} {
		if c := got[name]; c.State != Fails || c.Advice == "" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	for _, capability := range []string{"CAP_SYS_PTRACE", "CAP_CHECKPOINT_RESTORE"} {
		if !strings.Contains(got["capabilities"].Detail, capability) {
			t.Errorf("%s is not named: %s", capability, got["capabilities"].Detail)
		}
	}
	if c := got["reach all processes"]; c.State != Missing {
		t.Errorf("other users' processes: %+v", c)
	}
	for _, name := range []string{"kernel", "seccomp"} { // its own child it may trace
		if got[name].State == Fails {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
}
