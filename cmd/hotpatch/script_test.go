package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hotpatch": func() { os.Exit(run()) }})
}

func TestScripts(t *testing.T) {
	for _, tool := range []string{"gcc", "strip", "readelf", "objdump"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt install gcc libc6-dev binutils", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: processes cannot be traced")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("STORE", filepath.Join(e.WorkDir, "store"))
			return nil
		},
	})
}

// start runs a program in the background until the script ends and sets PID:
// start PROGRAM [ARG...]. The program's output goes to the file out.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: start PROGRAM [ARG...]")
	}
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	cmd := exec.Command(ts.MkAbs(args[0]), args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, ts.MkAbs(".")
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
		out.Close()
	})
	deadline := time.Now().Add(10 * time.Second)
	for {
		if st, err := os.Stat(ts.MkAbs("out")); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s prints nothing", args[0])
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Setenv("PID", strconv.Itoa(cmd.Process.Pid))
	fmt.Fprintf(ts.Stdout(), "pid %d\n", cmd.Process.Pid)
}
