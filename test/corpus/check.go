package main

import "context"

// childCheck proves a patch by a second way.
func childCheck(out *said, old, fixed []byte, patchFile string) error {
	return nil
}

// check has the patch of a file checked in a child.
func (b *bench) check(ctx context.Context, f *file, patchFile string) {
	f.Check = step{State: notYet}
}
