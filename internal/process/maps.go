package process

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Prot is a mapping's protection.
type Prot uint8

// The protection bits.
const (
	Read Prot = 1 << iota
	Write
	Exec
	Shared
)

// Mapping is one line of /proc/PID/maps.
type Mapping struct {
	Range
	Prot  Prot
	Off   uint64 // offset in the file, bytes
	Dev   string // major:minor, hexadecimal
	Inode uint64
	Path  string // without " (deleted)"; [vdso], [stack], [heap] or empty
	Gone  bool   // the file is deleted or replaced
}

// Bounds on what a process may show; the kernel's own, vm.max_map_count, is
// 65530 mappings unless somebody raised it.
const (
	maxText   = 64 << 20 // bytes of one file below /proc/PID
	maxPieces = 1024     // mappings of one module: its headers say how far it goes, and may be forged
)

// ErrTooLarge means that a process has more of something than is looked at.
var ErrTooLarge = errors.New("more than is looked at")

// Maps reads the mappings, sorted by address.
func (p *Process) Maps() ([]Mapping, error) {
	b, err := p.file("maps")
	for p.replaced() { // they may be of another program
		if err := p.part(); err != nil {
			return nil, err
		}
		b, err = p.file("maps")
	}
	if err != nil {
		return nil, err
	}
	if len(b) == 0 && p.mainEnded() {
		return nil, fmt.Errorf("read mappings of process %d: %w", p.Pid, ErrMainEnded)
	}
	if len(b) == 0 {
		return nil, ErrExited // a zombie has no mappings
	}
	return parseMaps(b)
}

func parseMaps(b []byte) ([]Mapping, error) {
	out := make([]Mapping, 0, bytes.Count(b, []byte{'\n'}))
	for line := range strings.Lines(string(b)) {
		m, err := parseMapping(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func parseMapping(line string) (Mapping, error) {
	var m Mapping
	f := strings.SplitN(line, " ", 6)
	if len(f) < 5 {
		return m, fmt.Errorf("parse mapping \"%s\": too short", line)
	}
	start, end, _ := strings.Cut(f[0], "-")
	var err [4]error
	var a, b uint64
	a, err[0] = strconv.ParseUint(start, 16, 64)
	b, err[1] = strconv.ParseUint(end, 16, 64)
	m.Off, err[2] = strconv.ParseUint(f[2], 16, 64)
	m.Inode, err[3] = strconv.ParseUint(f[4], 10, 64)
	for _, e := range err {
		if e != nil {
			return m, fmt.Errorf("parse mapping \"%s\": %w", line, e)
		}
	}
	m.Range, m.Dev = Range{Addr(a), Addr(b)}, f[3]
	for i, c := range f[1] {
		switch c {
		case 'r', 'w', 'x':
			m.Prot |= 1 << i
		case 's':
			m.Prot |= Shared
		}
	}
	if len(f) == 6 {
		m.Path = strings.ReplaceAll(strings.TrimLeft(f[5], " "), `\012`, "\n")
		if p, ok := strings.CutSuffix(m.Path, " (deleted)"); ok && m.Inode != 0 {
			m.Path, m.Gone = p, true
		}
	}
	return m, nil
}

// name is the link to the mapped file, below /proc/PID.
func (m *Mapping) name() string {
	return "map_files/" + strconv.FormatUint(uint64(m.Start), 16) + "-" + strconv.FormatUint(uint64(m.End), 16)
}

// openName opens the link to a mapped file. Its name is the range of the
// mapping, which the program may have divided since it was read.
func (p *Process) openName(m Mapping) (int, error) {
	const tries = 20
	for try := 1; ; try++ {
		fd, err := unix.Openat(p.dir, m.name(), unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != unix.ENOENT || try == tries || !p.Alive() {
			if try == tries && err == unix.ENOENT {
				err = fmt.Errorf("its range changes all the time: %w", unix.EAGAIN)
			}
			return fd, err
		}
		maps, err := p.Maps()
		if err != nil {
			return -1, err
		}
		i := slices.IndexFunc(maps, func(o Mapping) bool { return o.Contains(m.Start) && o.Inode == m.Inode && o.Path == m.Path })
		if i < 0 {
			return -1, fmt.Errorf("it is no longer mapped at %v: %w", m.Start, unix.EAGAIN)
		}
		m = maps[i]
	}
}

// OpenMapped opens the file behind a mapping, also when it is deleted
// (/proc/PID/map_files; needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN). Only
// regular files are: opening a device may have an effect. A lease that somebody
// holds on it makes it fail rather than wait (fcntl(2), F_SETLEASE).
func (p *Process) OpenMapped(m Mapping) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		return nil, fmt.Errorf("open mapped file %s of process %d: %w", m.Path, p.Pid, gone(err))
	}
	at, err := p.openName(m)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(errors.New("it is not a regular file"))
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fail(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil { // or the runtime would poll it
		return fail(errors.Join(err, unix.Close(fd)))
	}
	if p.replaced() {
		unix.Close(fd)
		return fail(ErrExited)
	}
	return os.NewFile(uintptr(fd), m.Path), nil
}

// Module is one program or library mapped in the process.
type Module struct {
	Path string // in the process's mount namespace; "[vdso]" for the vdso
	Gone bool   // its file is deleted or replaced
	// Bias is the address in the process minus the image address.
	Bias Addr
	Maps []Mapping // sorted by address
	// Text is what lies between its first and last mapping's ends.
	Span Range
	file *File // once it is known
}

// Name is the file's base name.
func (m *Module) Name() string { return path.Base(m.Path) }

// Modules groups the mappings of ELF files that have code. A file that is
// mapped twice gives two modules.
func (p *Process) Modules() ([]Module, error) {
	maps, err := p.Maps()
	if err != nil {
		return nil, err
	}
	return p.ModulesOf(maps), nil
}

// ModulesOf is Modules for mappings that were read before.
func (p *Process) ModulesOf(maps []Mapping) []Module {
	var out []Module
	again := make(map[Addr]bool) // where modules have the first page of their file once more
	for i, m := range maps {
		vdso := m.Path == "[vdso]"
		if !vdso && (m.Inode == 0 || m.Off != 0) || m.Prot&Shared != 0 || again[m.Start] {
			continue
		}
		h, err := p.readHeader(m)
		if err != nil {
			continue
		}
		end := m.Start + Addr(h.size)
		exec, last := m.Prot&Exec != 0, i+1
		for ; last < min(len(maps), i+maxPieces) && maps[last].Start < end; last++ {
			n := &maps[last]
			// Pages of .bss are anonymous; they belong to it all the same.
			if n.Inode != 0 && (n.Inode != m.Inode || n.Dev != m.Dev) {
				break
			}
			exec = exec || n.Prot&Exec != 0 // a copy of it too
		}
		if exec {
			of, bias := maps[i:last:last], m.Start-Addr(h.first)
			out = append(out, Module{Path: m.Path, Gone: m.Gone, Bias: bias, Maps: of, Span: Range{m.Start, of[len(of)-1].End}})
			for _, a := range h.again {
				again[bias+Addr(a)] = true
			}
		}
	}
	return out
}

// header is where the pages of an image lie: that of the first PT_LOAD, those
// that hold the first page of the file (lld packs small files without gaps), and
// how many bytes all of them take.
type header struct {
	first, size uint64
	again       []uint64
}

// readHeader reads the program headers at the start of a mapping.
func (p *Process) readHeader(m Mapping) (header, error) {
	var b [4096]byte
	n, err := p.mem.ReadAt(b[:min(len(b), int(m.End-m.Start))], int64(m.Start))
	if n < 64 {
		return header{}, fmt.Errorf("read header of %s: %w", m.Path, err)
	}
	if string(b[:4]) != elf.ELFMAG || b[elf.EI_CLASS] != byte(elf.ELFCLASS64) || b[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return header{}, fmt.Errorf("read header of %s: not ELF64", m.Path)
	}
	// Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56. Elf64_Phdr:
	// p_type 0, p_offset 8, p_vaddr 16, p_memsz 40 (System V gABI, chapters 4, 5).
	le := binary.LittleEndian
	off, size, num := le.Uint64(b[32:]), uint64(le.Uint16(b[54:])), uint64(le.Uint16(b[56:]))
	if size != 56 || off > uint64(n) || off+num*size > uint64(n) {
		return header{}, fmt.Errorf("read header of %s: program headers out of reach", m.Path)
	}
	h := header{first: ^uint64(0)}
	var last uint64
	for ; num > 0; num, off = num-1, off+size {
		ph := b[off:]
		if elf.ProgType(le.Uint32(ph)) != elf.PT_LOAD {
			continue
		}
		v := le.Uint64(ph[16:])
		h.first = min(h.first, v&^4095)
		last = max(last, v+le.Uint64(ph[40:]))
		if le.Uint64(ph[8:]) < 4096 {
			h.again = append(h.again, v&^4095)
		}
	}
	if last == 0 {
		return header{}, fmt.Errorf("read header of %s: nothing to load", m.Path)
	}
	h.size = (last - h.first + 4095) &^ 4095
	return h, nil
}
