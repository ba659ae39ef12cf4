package deb

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// arMagic opens an ar archive, ar(5).
const arMagic = "!<arch>\n"

// arReader walks the members of an ar archive as deb(5) allows them: short
// names, with or without the slash at their end that System V writes.
type arReader struct {
	r    io.Reader
	left int64 // bytes of the current member
	odd  bool  // a padding byte follows it
}

func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, errors.New("not an ar archive")
	}
	return &arReader{r: r}, nil
}

// next goes to the next member; io.EOF when there is none.
func (a *arReader) next() (name string, err error) {
	if _, err := io.Copy(io.Discard, a); err != nil {
		return "", err
	}
	var h [60]byte
	if a.odd {
		// Some archives leave out the padding after the last member.
		if _, err := io.ReadFull(a.r, h[:1]); err != nil {
			return "", err
		}
	}
	switch _, err := io.ReadFull(a.r, h[:]); {
	case err == io.EOF:
		return "", io.EOF
	case err != nil:
		return "", fmt.Errorf("ar member header: %w", err)
	case string(h[58:]) != "`\n":
		return "", errors.New("ar member header without its end mark")
	}
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	size, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 62)
	if err != nil {
		return "", fmt.Errorf("ar member \"%s\": size \"%s\"", name, h[48:58])
	}
	a.left, a.odd = int64(size), size%2 == 1
	return name, nil
}

// Read reads from the current member; a file that ends in it is an error.
func (a *arReader) Read(p []byte) (int, error) {
	if a.left == 0 {
		return 0, io.EOF
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	if err == io.EOF && a.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
