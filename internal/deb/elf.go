package deb

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"iter"
)

// An ELF is one ELF file of a package.
type ELF struct {
	Path string // absolute path in the package
	Data []byte
}

// ELFs gives the ELF files of the package at path, in its order. Links are
// left out: a file with several names comes once, under its first. An error,
// also one found only at the end such as a wrong checksum, comes last: what
// came before it is then not to be trusted.
func ELFs(path string, limits Limits) iter.Seq2[ELF, error] {
	return func(yield func(ELF, error) bool) {
		p, err := Open(path, limits)
		if err != nil {
			yield(ELF{}, err)
			return
		}
		defer p.Close()
		for {
			e, err := p.Next()
			if err == io.EOF {
				return
			}
			var f ELF
			if err == nil {
				f, err = readELF(e)
			}
			if err != nil {
				yield(ELF{}, fmt.Errorf("ELF files of %s: %w", path, err))
				return
			}
			if f.Data != nil && !yield(f, nil) {
				return
			}
		}
	}
}

// readELF reads an entry; without data when it is no ELF file.
func readELF(e *Entry) (ELF, error) {
	if !e.Mode.IsRegular() || e.Hard {
		return ELF{}, nil
	}
	magic := make([]byte, len(elf.ELFMAG))
	if _, err := io.ReadFull(e, magic); err != nil {
		if (err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)) && e.Size < int64(len(magic)) {
			return ELF{}, nil
		}
		return ELF{}, err
	}
	if string(magic) != elf.ELFMAG {
		return ELF{}, nil
	}
	e.r = io.MultiReader(bytes.NewReader(magic), e.r)
	data, err := e.Bytes()
	return ELF{Path: e.Path, Data: data}, err
}
