package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"hotpatch/internal/engine"
	"hotpatch/internal/process"
)

// engine opens the records of what is in which process.
func (a *app) engine() (*engine.Engine, error) {
	e, err := engine.New(engine.Options{Store: a.store}, nil)
	if need := missingRights(); errors.Is(err, fs.ErrPermission) && need != "" {
		err = fmt.Errorf("%w: %s", err, need)
	}
	return e, err
}

// missingRights names the capabilities that this program lacks to look into
// other users' processes and to patch them; empty when it has them all.
func missingRights() string {
	lacks, err := process.MissingCapabilities()
	if err != nil || len(lacks) == 0 {
		return ""
	}
	return fmt.Sprintf("this needs %s: run it as root, or give these capabilities", strings.Join(lacks, " and "))
}
