// Package patch holds the patch file: what has to be put beside a baseline
// build, in a process, to make it behave like the fixed build, and all that
// is needed to check that it belongs there. It knows nothing of processes.
package patch

import (
	"encoding/hex"
	"fmt"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// PageSize is the unit of protection, in bytes (psABI x86-64, 3.3.1).
const PageSize = 4096

// Digest is a SHA-256; as text it is lower-case hex.
type Digest [32]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error { return unhex(d[:], b) }

// JumpBytes are the bytes that a steering jump replaces; as text lower-case hex.
type JumpBytes [5]byte

// MarshalText implements encoding.TextMarshaler.
func (j JumpBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, j[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (j *JumpBytes) UnmarshalText(b []byte) error { return unhex(j[:], b) }

func unhex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("%d hex digits, not %d", len(text), 2*len(dst))
	}
	_, err := hex.Decode(dst, text)
	return err
}

// Prot is the protection of a piece of the overlay once it is in place.
type Prot uint8

// The protections of overlay pieces. None is ever writable and executable.
const (
	ReadOnly Prot = iota
	ReadExec
	ReadWrite
)

// A Piece is a run of whole pages of the overlay. Pieces are sorted by Addr and
// do not overlap; the address space between them stays unmapped (PROT_NONE).
type Piece struct {
	// Addr is page-aligned, in the overlay's own address space: piece address +
	// overlay bias = address in the process.
	Addr  module.Addr
	Prot  Prot
	Bytes []byte `json:"-"` // length is a multiple of PageSize
}

// FixupKind says what is added to a place in a piece when it is put into a
// process. B is the bias of the baseline module (address in the process minus
// image address), O the bias of the overlay.
type FixupKind uint8

// The kinds of fixups.
const (
	// RelBaseline: a signed 32-bit field; add B-O. It must not overflow.
	RelBaseline FixupKind = iota
	// RelOverlay: a signed 32-bit field that leads to something of the overlay
	// whose address the program may hold. Nothing is added, unless an earlier
	// patch brought the same thing into the process: then the distance to it
	// (see Succeed).
	RelOverlay
	// AbsBaseline: an unsigned 64-bit field; add B.
	AbsBaseline
	// AbsOverlay: an unsigned 64-bit field; add O, and what RelOverlay adds.
	AbsOverlay
	// AbsImport: an unsigned 64-bit field, which holds a distance behind the
	// symbol; add the run-time address of Imports[Fixup.Import].
	AbsImport
	// NarrowBaseline and NarrowOverlay: AbsBaseline and AbsOverlay in an
	// unsigned 32-bit field, as in a program at a fixed address, whose B is 0.
	// The address must lie below 2 GiB, so that it may be read with a sign.
	NarrowBaseline
	NarrowOverlay
)

func (k FixupKind) String() string {
	return [...]string{"relative-to-baseline", "held-address", "address-in-baseline", "address-in-overlay", "import", "narrow-address-in-baseline", "narrow-address-in-overlay"}[min(k, NarrowOverlay)]
}

// A Fixup is one field of a piece that depends on where things lie in the
// process. The field already holds the value for B = O = 0.
type Fixup struct {
	At     module.Addr // first byte of the field, overlay address
	Kind   FixupKind
	Import int         // index into Patch.Imports, for AbsImport
	Target module.Addr // what it leads to: image address of the baseline, or overlay address
}

// Size is the number of bytes of the field.
func (f *Fixup) Size() int {
	switch f.Kind {
	case AbsBaseline, AbsOverlay, AbsImport:
		return 8
	}
	return 4
}

// An Import is a symbol that the fixed code needs and the baseline never
// imported. It is resolved among the modules loaded in the process.
type Import struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // symbol version, empty for any
	Func    bool   `json:"func"`              // STT_FUNC (or called), else data
}

// An Export is a function that the baseline does not export and the fixed
// build does. Other modules of the same update may import it.
type Export struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	At      module.Addr `json:"at"` // overlay address
}

// A Steer sends one baseline function to its overlay counterpart: a
// jmp rel32 (5 bytes) is written at At.
type Steer struct {
	Name string      // for people: symbol or func_<addr>
	At   module.Addr // baseline image address of the first overwritten byte (after endbr64)
	To   module.Addr // overlay address that the jump leads to
	Old  JumpBytes   // the baseline's bytes at At
}

// An OldFunc is a baseline function that the fixed build changed or removed.
// With the strict level no thread may have a frame in any of its ranges.
type OldFunc struct {
	Name   string
	Ranges []module.Range // baseline image addresses; the first holds the entry
	Digest Digest         // SHA-256 over the bytes of all ranges, in order, as in the baseline file
	// Dead: once its entries are steered nothing can come into it from outside.
	Dead bool `json:",omitempty"`
}

// Change says what happened to a function of the fixed build.
type Change uint8

// The kinds of change.
const (
	Changed Change = iota // body or references differ from the baseline's
	Added                 // not in the baseline
	Carried               // unchanged, but it has to come along (named in Why)
)

// A Function is one function in the overlay.
type Function struct {
	Name    string
	Change  Change
	Why     string         // e.g. "body differs", "calls another function at 0x1234"
	Ranges  []module.Range // in the overlay
	Fixed   []module.Range // in the fixed build's image
	Old     module.Addr    // its entry in the baseline, 0 when added
	Steered bool
}

// An Omission is a difference that was left out because it cannot matter.
type Omission struct {
	Name   string // function
	Reason string // e.g. "version text", "line number", "nop length"
	Detail string // e.g. `"OpenSSL 3.0.15" is "OpenSSL 3.0.16"`
}

// A Patch takes one module of a process from its baseline to its fixed build.
type Patch struct {
	ID       ID     `json:"-"` // digest of the encoded file
	Module   string // soname, or the program's base name
	Baseline module.Identity
	Fixed    module.Identity
	Tool     string // version of hotpatch that built it

	Pieces     []Piece
	Fixups     []Fixup
	Variables  []Variable `json:",omitempty"`
	Imports    []Import
	Exports    []Export `json:",omitempty"`
	Steers     []Steer
	Old        []OldFunc
	Functions  []Function
	Omissions  []Omission
	Remarks    []diff.Remark `json:",omitempty"` // what to know of it, see diff.Result
	EHFrameHdr module.Addr   // .eh_frame_hdr of the overlay's own unwind tables, overlay address; 0 when none
	// Header is room, of HeaderLen bytes, at the end of the read-only piece for
	// whoever installs the overlay; the patch has zeros there.
	Header    module.Addr // overlay address
	HeaderLen uint64
	// Escapes: addresses of overlay code may come to lie in the program's own
	// data, so that the overlay has to stay mapped after a rollback.
	Escapes bool
	// DataEscapes: the same of its data: new variables and constants.
	DataEscapes bool
	// EntryAllowed says that the consistency level "entry" is safe; EntryWhy
	// is the argument for or against, for people.
	EntryAllowed bool
	EntryWhy     string
	// Pairs is the data pairing: baseline address, fixed address.
	Pairs [][2]module.Addr
	// FixedFile is the fixed build itself, where the patch leaves something in
	// the program that a later patch has to find again: new variables, or
	// addresses of its code.
	FixedFile []byte `json:"-"`
}

// A Variable is a stretch of variables that the baseline does not have.
type Variable struct {
	Fixed module.Range // in the fixed build
	At    module.Addr  // in the overlay
}

// ID is the SHA-256 of an encoded patch file in lower-case hex; people may
// name a patch by its first 12 digits.
type ID string

// Short is the first 12 digits.
func (id ID) Short() string { return string(id[:min(12, len(id))]) }

// Span is the range of overlay addresses from the first page of the first
// piece to the end of the last: the address space that the overlay reserves.
func (p *Patch) Span() module.Range {
	if len(p.Pieces) == 0 {
		return module.Range{}
	}
	last := p.Pieces[len(p.Pieces)-1]
	return module.Range{Start: p.Pieces[0].Addr, End: last.Addr + module.Addr(len(last.Bytes))}
}
