// Command hotpatch installs security updates into running programs, without a
// restart.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"hotpatch/internal/engine"
	"hotpatch/internal/process"
)

// version is set when a release is linked.
var version = ""

func main() { os.Exit(run()) }

func run() int {
	process.BeNice() // what runs here matters more than how soon we are done
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // another signal ends this program at once
	app := &app{}
	root := newRoot(app)
	cmd, err := root.ExecuteContextC(ctx)
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted: nothing was changed")
	}
	lines := strings.Split(fmt.Sprint(err), "\n") // errors that are joined have some
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	message := strings.Join(lines, "\n")
	fmt.Fprintln(os.Stderr, "hotpatch:", message)
	if !app.printed && (app.json || slices.Contains(os.Args, "--json")) { // a bad flag before it hides it
		_ = app.print(os.Stdout, cmd.Name(), report{Error: err.Error()}) // the exit status says it, too
	}
	return 1
}

// exitStatus ends the program with a documented status and no message.
type exitStatus int

// The documented exit statuses besides 0, done.
const (
	exitOutdated exitStatus = 2 // status: a process executes outdated code
	exitFailed   exitStatus = 1
	exitRefused  exitStatus = 3 // something was refused or blocked
	exitDamaged  exitStatus = 4 // verify: a byte is not what it should be
)

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// app is what the subcommands share: the global flags.
type app struct {
	json, verbose bool
	printed       bool // the one object
	store         string
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "hotpatch",
		Short: "Install security updates into running programs, without a restart",
		Long: `hotpatch installs security updates into running programs, in memory, without
a restart. It makes the patch from two ordinary builds of the same module: the
one that a process is running and the one that has replaced it on disk.

The daily use, after the distribution's own update:

  apt upgrade
  hotpatch status
  hotpatch apply

Exit status: 0 done, 1 an error, 2 (status) something runs outdated code,
3 something was refused or blocked, 4 (verify) a byte is not what it should be.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       toolVersion(),
		PersistentPreRunE: func(*cobra.Command, []string) (err error) {
			a.store, err = filepath.Abs(cmp.Or(a.store, engine.DefaultStore)) // the worker has another working directory
			return err
		},
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object (its schema is docs/json.md)")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log each change of state to standard error, with --json as JSON")
	root.PersistentFlags().StringVar(&a.store, "store", engine.DefaultStore, "folder of the records of what is in which process")
	root.AddCommand(
		newStatus(a), newBuild(a), newInspect(a), newApply(a), newVerify(a), newRollback(a), newDoctor(a), newWorker(), newMan(),
	)
	return root
}

// toolVersion names this build: the linked version, else the commit.
func toolVersion() string {
	if version != "" {
		return version
	}
	rev, dirty := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && len(s.Value) >= 12:
				rev = s.Value[:12]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+changes"
			}
		}
	}
	return "devel-" + rev + dirty
}
