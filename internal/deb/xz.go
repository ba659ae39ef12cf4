package deb

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// maxDict bounds the dictionary of an xz block and the window of a zstd frame,
// in bytes. The largest presets (xz -9, zstd --ultra -22) ask for 64 and 128 MiB.
const maxDict = 128 << 20

var errXZ = errors.New("malformed xz stream")

// xzReader reads the one stream of an .xz file (The .xz File Format 1.2.1).
// The container is read here, and only LZMA2 by the library: the library's
// own container reader allocates whatever dictionary, up to 4 GiB, a block
// asks for.
type xzReader struct {
	r        *countReader
	check    byte      // kind, 2.1.1.2
	sum      hash.Hash // of the current block; nil for none
	block    *lzma.Reader2
	start    int64     // where the current block began
	size     int64     // bytes of the current block, uncompressed
	declared [2]int64  // sizes in the block header, compressed and not; -1 none
	header   int64     // bytes of the block header
	records  hash.Hash // over the blocks' sizes, to compare with the index
	blocks   uint64
	spent    int64 // bytes of all dictionaries so far
	total    int64 // bytes of all blocks so far, uncompressed
	err      error
}

// countReader counts, and gives single bytes to the varint reader.
type countReader struct {
	r   *bufio.Reader
	n   int64
	sum hash.Hash32 // over what is read, where it is set
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	return n, err
}

func (c *countReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	return b[0], err
}

func newXZReader(r io.Reader) (*xzReader, error) {
	x := &xzReader{r: &countReader{r: bufio.NewReaderSize(r, 1<<16)}, records: sha256.New()}
	h, err := x.take(12)
	if err != nil {
		return nil, err
	}
	if string(h[:6]) != "\xfd7zXZ\x00" || h[6] != 0 || h[7] > 15 || crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return nil, fmt.Errorf("%w: stream header", errXZ)
	}
	x.check = h[7]
	if x.check != 0 && x.newSum() == nil {
		return nil, fmt.Errorf("xz check of kind %d is not supported", x.check)
	}
	return x, nil
}

func (x *xzReader) newSum() hash.Hash {
	switch x.check {
	case 1:
		return crc32.NewIEEE()
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA))
	case 10:
		return sha256.New()
	}
	return nil
}

// take reads n bytes of the container.
func (x *xzReader) take(n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(x.r, b); err != nil {
		return nil, fmt.Errorf("%w: %w", errXZ, io.ErrUnexpectedEOF)
	}
	return b, nil
}

// Read reads uncompressed bytes.
func (x *xzReader) Read(p []byte) (int, error) {
	for x.err == nil && len(p) > 0 {
		if x.block == nil {
			x.err = x.open()
			continue
		}
		n, err := x.block.Read(p)
		if x.sum != nil {
			x.sum.Write(p[:n])
		}
		x.size += int64(n)
		x.total += int64(n)
		switch {
		case err == io.EOF:
			x.err = x.finish()
		case err != nil:
			x.err = fmt.Errorf("%w: %w", errXZ, err)
		}
		if n > 0 {
			return n, nil
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, x.err
}

// open begins the next block, or reads what follows the last one and gives io.EOF.
func (x *xzReader) open() error {
	x.start = x.r.n
	n, err := x.r.ReadByte()
	if err != nil {
		return fmt.Errorf("%w: %w", errXZ, io.ErrUnexpectedEOF)
	}
	if n == 0 {
		return x.end()
	}
	x.header = (int64(n) + 1) * 4
	rest, err := x.take(x.header - 1)
	if err != nil {
		return err
	}
	h := append([]byte{n}, rest...)
	body := h[:len(h)-4]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(h[len(body):]) {
		return fmt.Errorf("%w: block header", errXZ)
	}
	dict, err := x.blockHeader(body[1:])
	if err != nil {
		return err
	}
	if u := x.declared[1]; u >= 0 {
		dict = min(dict, max(u, lzma.MinDictCap))
	}
	// Honest writers of many blocks make each at least as long as the
	// dictionary; others could make the reader clear memory without end.
	if x.spent += dict; x.spent > 4*maxDict+4*x.total {
		return fmt.Errorf("%w: more dictionaries than data", errXZ)
	}
	if x.block, err = (lzma.Reader2Config{DictCap: int(dict)}).NewReader2(x.r); err != nil {
		return fmt.Errorf("%w: %w", errXZ, err)
	}
	x.size, x.sum = 0, x.newSum()
	return nil
}

// blockHeader reads flags, sizes and the filter (3.1), and gives the size of
// the dictionary.
func (x *xzReader) blockHeader(b []byte) (dict int64, err error) {
	flags, r := b[0], bytes.NewReader(b[1:])
	if flags&0x3f != 0 {
		return 0, errors.New("xz filters other than LZMA2 are not supported")
	}
	for i := range x.declared {
		x.declared[i] = -1
		if flags&(0x40<<i) != 0 {
			v, err := binary.ReadUvarint(r)
			if err != nil || v >= 1<<62 {
				return 0, fmt.Errorf("%w: size in a block header", errXZ)
			}
			x.declared[i] = int64(v)
		}
	}
	filter := make([]byte, 3)
	if _, err := io.ReadFull(r, filter); err != nil {
		return 0, fmt.Errorf("%w: filter flags", errXZ)
	}
	if filter[0] != 0x21 || filter[1] != 1 {
		return 0, errors.New("xz filters other than LZMA2 are not supported")
	}
	if filter[2] > 40 {
		return 0, fmt.Errorf("%w: dictionary size", errXZ)
	}
	if dict, err = lzma.DecodeDictCap(filter[2]); err != nil {
		return 0, fmt.Errorf("%w: %w", errXZ, err)
	}
	if dict > maxDict {
		return 0, &LimitError{What: "xz dictionary", Limit: maxDict}
	}
	return dict, nil
}

// finish checks a block that has been read to its end.
func (x *xzReader) finish() error {
	x.block = nil
	packed := x.r.n - x.start - x.header
	if c := x.declared[0]; c >= 0 && c != packed {
		return fmt.Errorf("%w: compressed size of a block", errXZ)
	}
	if u := x.declared[1]; u >= 0 && u != x.size {
		return fmt.Errorf("%w: uncompressed size of a block", errXZ)
	}
	if err := x.padding(packed); err != nil {
		return err
	}
	unpadded := x.header + packed
	if x.sum != nil {
		stored, err := x.take(int64(x.sum.Size()))
		if err != nil {
			return err
		}
		unpadded += int64(len(stored))
		want := x.sum.Sum(nil)
		if x.check != 10 { // the CRCs are stored little-endian
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i]
			}
		}
		if !bytes.Equal(stored, want) {
			return fmt.Errorf("%w: checksum of a block", errXZ)
		}
	}
	x.blocks++
	x.record(uint64(unpadded), uint64(x.size))
	return nil
}

func (x *xzReader) record(unpadded, size uint64) {
	b := binary.LittleEndian.AppendUint64(nil, unpadded)
	x.records.Write(binary.LittleEndian.AppendUint64(b, size))
}

// padding reads the zero bytes that bring n to a multiple of four.
func (x *xzReader) padding(n int64) error {
	pad, err := x.take(-n & 3)
	if err == nil && bytes.ContainsFunc(pad, func(r rune) bool { return r != 0 }) {
		err = fmt.Errorf("%w: padding", errXZ)
	}
	return err
}

// end reads the index (4) and the footer (2.1.2), and gives io.EOF when they
// fit what came before.
func (x *xzReader) end() error {
	x.r.sum = crc32.NewIEEE()
	x.r.sum.Write([]byte{0}) // the index indicator
	n, err := binary.ReadUvarint(x.r)
	if err != nil || n != x.blocks {
		return fmt.Errorf("%w: index has %d records, not %d", errXZ, n, x.blocks)
	}
	seen := x.records.Sum(nil)
	x.records = sha256.New()
	for range n {
		unpadded, err1 := binary.ReadUvarint(x.r)
		size, err2 := binary.ReadUvarint(x.r)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("%w: index: %w", errXZ, err)
		}
		x.record(unpadded, size)
	}
	if !bytes.Equal(seen, x.records.Sum(nil)) {
		return fmt.Errorf("%w: index differs from the blocks", errXZ)
	}
	if err := x.padding(x.r.n - x.start); err != nil {
		return err
	}
	sum := x.r.sum.Sum32()
	foot, err := x.take(4 + 12)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(foot) != sum {
		return fmt.Errorf("%w: checksum of the index", errXZ)
	}
	foot = foot[4:]
	size := x.r.n - 12 - x.start
	if crc32.ChecksumIEEE(foot[4:10]) != binary.LittleEndian.Uint32(foot) || foot[8] != 0 || foot[9] != x.check ||
		int64(binary.LittleEndian.Uint32(foot[4:])+1)*4 != size || string(foot[10:]) != "YZ" {
		return fmt.Errorf("%w: footer", errXZ)
	}
	if _, err := x.r.ReadByte(); err == nil {
		return errors.New("bytes after the xz stream")
	} else if err != io.EOF {
		return err
	}
	return io.EOF
}
