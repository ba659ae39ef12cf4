package engine

import (
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"hotpatch/internal/process"
)

// Blockers are the threads that were in the way of the last attempt on a
// process; nil when there was none since, or it succeeded.
func (s *Store) Blockers(id process.ID) []Reason {
	b, err := os.ReadFile(s.blockedPath(id))
	if err != nil {
		return nil
	}
	var rs []Reason
	if json.Unmarshal(b, &rs) != nil {
		return nil
	}
	return rs
}

// note keeps who was in the way, for whoever asks how things stand, until an
// attempt ends otherwise. It is for people only: losing it does no harm.
func (s *Store) note(res *Result) {
	b, err := json.Marshal(res.Reasons)
	for _, id := range append([]process.ID{res.ID}, res.Sharing...) {
		if res.State != Blocked {
			_ = unix.Unlink(s.blockedPath(id))
		} else if err == nil {
			_ = s.write(s.blockedPath(id), b)
		}
	}
}

func (s *Store) blockedPath(id process.ID) string {
	return filepath.Join(s.dir, id.String()+".blocked")
}

// Has reports whether there is a record of the process.
func (s *Store) Has(id process.ID) bool {
	st, err := os.Stat(s.path(id))
	return err == nil && st.Size() > 0
}
