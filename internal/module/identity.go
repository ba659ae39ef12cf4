package module

import "fmt"

// Addr is an address in a module's image: what ELF calls a virtual address
// (p_vaddr, st_value), before the loader adds the base. Bytes.
type Addr uint64

// Off is an offset in a module's file. Bytes.
type Off uint64

func (a Addr) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// Range is the half-open interval [Start, End) of image addresses.
type Range struct {
	Start Addr `json:"start"`
	End   Addr `json:"end"`
}

// Contains reports whether a lies in the range.
func (r Range) Contains(a Addr) bool { return r.Start <= a && a < r.End }

// Len is the length in bytes.
func (r Range) Len() uint64 { return uint64(r.End - r.Start) }

// Identity says which build of a module something belongs to. Two identities
// are the same build exactly when they compare equal with ==.
type Identity struct {
	// BuildID is the GNU build-id note (NT_GNU_BUILD_ID) in lower-case hex,
	// empty when the file has none.
	BuildID string `json:"build_id"`
	// Digest is the SHA-256, in lower-case hex, over all PT_LOAD segments:
	// for each p_vaddr, p_filesz, p_memsz, p_flags and the file's bytes.
	Digest string `json:"digest"`
}
