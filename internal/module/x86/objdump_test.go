package x86

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// tool is the path of a program of a Debian package, which the proof cannot do without.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install %s", name, pkg)
	}
	return path
}

// pad stands behind every piece of code: whatever the last instruction
// swallows of it, objdump is in step again at the next piece.
var pad = bytes.Repeat([]byte{0x90}, 16)

// pieces is code to compare, laid out one piece after another with pad between.
type pieces struct {
	flat   []byte
	starts []int
	names  []string // of starts
	isCode []bool   // of flat: not pad
}

func (p *pieces) add(name string, code []byte) {
	p.starts = append(p.starts, len(p.flat))
	p.names = append(p.names, name)
	p.flat = append(append(p.flat, code...), pad...)
	p.isCode = append(p.isCode, slices.Repeat([]bool{true}, len(code))...)
	p.isCode = append(p.isCode, make([]bool, len(pad))...)
}

// name says where in the original the byte at off lies.
func (p *pieces) name(off int) string {
	i, ok := slices.BinarySearch(p.starts, off)
	if !ok {
		i--
	}
	return fmt.Sprintf("%s+%#x", p.names[i], off-p.starts[i])
}

// fdePieces is all code of an ELF file that its FDEs cover, found through
// the sorted table of .eh_frame_hdr (LSB core, 10.6.2), in parts of about max bytes.
func fdePieces(t testing.TB, path string, limit int) []*pieces {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hdr, frame := f.Section(".eh_frame_hdr"), f.Section(".eh_frame")
	if hdr == nil || frame == nil {
		t.Fatalf("%s: no .eh_frame_hdr", path)
	}
	h, err1 := hdr.Data()
	fr, err2 := frame.Data()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if !bytes.Equal(h[:4], []byte{1, 0x1b, 3, 0x3b}) {
		t.Fatalf("%s: .eh_frame_hdr is encoded as %x", path, h[:4])
	}
	le := binary.LittleEndian
	out := []*pieces{{}}
	var last uint64
	for i := range int(le.Uint32(h[8:])) {
		start := hdr.Addr + uint64(int64(int32(le.Uint32(h[12+8*i:]))))
		fde := hdr.Addr + uint64(int64(int32(le.Uint32(h[16+8*i:])))) - frame.Addr
		end := start + uint64(le.Uint32(fr[fde+12:]))
		if start = max(start, last); start >= end {
			continue
		}
		last = end
		p := out[len(out)-1]
		if len(p.flat) > limit {
			p = &pieces{}
			out = append(out, p)
		}
		p.add(fmt.Sprintf("%s:%#x", filepath.Base(path), start), bytesAt(t, f, start, end))
	}
	return out
}

func bytesAt(t testing.TB, f *elf.File, start, end uint64) []byte {
	t.Helper()
	for _, s := range f.Sections {
		if s.Addr <= start && end <= s.Addr+s.Size && s.Flags&elf.SHF_EXECINSTR != 0 {
			b := make([]byte, end-start)
			if _, err := s.ReadAt(b, int64(start-s.Addr)); err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no section has %#x to %#x", start, end)
	return nil
}

// line is one instruction as objdump shows it, in Intel's syntax.
type line struct {
	off, n int
	text   string
}

// objdump disassembles b linearly and yields each instruction, with the
// prefixes that objdump shows on lines of their own.
func objdump(t *testing.T, b []byte, yield func(line)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "objdump", "binutils"), "-D", "-z", "-b", "binary",
		"-m", "i386:x86-64", "-M", "intel,intel64", "--no-show-raw-insn", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cur := line{off: -1}
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		addr, text, ok := strings.Cut(sc.Text(), ":\t")
		if !ok {
			continue
		}
		off, err := strconv.ParseUint(strings.TrimSpace(addr), 16, 63)
		if err != nil {
			t.Fatal(err)
		}
		if cur.off >= 0 {
			if onlyPrefixes(cur.text) && int(off)-cur.off < 15 {
				cur.text += " " + text
				continue
			}
			cur.n = int(off) - cur.off
			yield(cur)
		}
		cur = line{off: int(off), text: text}
	}
	if err := cmd.Wait(); err != nil || sc.Err() != nil {
		t.Fatal(err, sc.Err())
	}
	cur.n = len(b) - cur.off
	yield(cur)
}

var prefixWords = map[string]bool{
	"data16": true, "addr32": true, "cs": true, "ds": true, "es": true, "ss": true, "fs": true, "gs": true,
	"lock": true, "rep": true, "repz": true, "repnz": true, "bnd": true, "notrack": true,
	"xacquire": true, "xrelease": true,
}

func isPrefix(w string) bool {
	w, _, _ = strings.Cut(w, ",") // jne,pt
	return prefixWords[w] || strings.HasPrefix(w, "rex") || strings.HasPrefix(w, "{")
}

func onlyPrefixes(text string) bool {
	for w := range strings.FieldsSeq(text) {
		if !isPrefix(w) {
			return false
		}
	}
	return true
}

// split takes the prefixes from a text: mnemonic, operands, comment.
func split(text string) (mnemonic, operands, comment string) {
	text, comment, _ = strings.Cut(text, "#")
	for {
		w, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		if !isPrefix(w) || rest == "" {
			w, _, _ = strings.Cut(w, ",")
			return w, strings.TrimSpace(rest), strings.TrimSpace(comment)
		}
		text = rest
	}
}

// kindOf is the Kind that objdump's text tells.
func kindOf(mnemonic, operands string) Kind {
	direct := strings.HasPrefix(operands, "0x")
	switch mnemonic {
	case "call", "callw", "callq":
		if direct {
			return Call
		}
		return CallInd
	case "jmp", "jmpw", "jmpq":
		if direct {
			return Jmp
		}
		return JmpInd
	case "ret", "retw", "retf", "retfw", "retfq", "iret", "iretw", "iretq", "iretd", "retq", "uiret":
		return Ret
	case "nop", "nopw", "nopl":
		return Nop
	case "xchg":
		if operands == "ax,ax" || operands == "rax,rax" {
			return Nop
		}
	case "endbr64":
		return Endbr
	case "int3":
		return Int3
	case "ud0", "ud1", "ud2", "hlt":
		return Trap
	case "syscall", "sysenter":
		return Syscall
	}
	if strings.HasPrefix(mnemonic, "j") || strings.HasPrefix(mnemonic, "loop") || strings.HasPrefix(mnemonic, "xbegin") {
		return Jcc
	}
	return Other
}

var sizes = map[string]int{
	"BYTE": 1, "WORD": 2, "DWORD": 4, "FWORD": 6, "QWORD": 8, "TBYTE": 10,
	"XMMWORD": 16, "OWORD": 16, "YMMWORD": 32, "ZMMWORD": 64,
}

// memory is what a text says of the memory operand: its size (0: not said),
// whether it is RIP-relative and its displacement.
func memory(operands string) (size int, rip bool, disp int64, ok bool) {
	open, end := strings.IndexByte(operands, '['), strings.IndexByte(operands, ']')
	if open < 0 || end < open {
		return 0, false, 0, false
	}
	words := strings.FieldsFunc(operands[:open], func(r rune) bool { return r == ' ' || r == ',' })
	if n := len(words); n >= 2 && (words[n-1] == "PTR" || words[n-1] == "BCST") {
		size = sizes[words[n-2]]
	}
	in := operands[open+1 : end]
	rip = strings.HasPrefix(in, "rip") || strings.HasPrefix(in, "eip")
	if i := strings.LastIndexAny(in, "+-"); i >= 0 && strings.HasPrefix(in[i+1:], "0x") {
		v, err := strconv.ParseUint(in[i+3:], 16, 64)
		if err != nil {
			return 0, false, 0, false
		}
		if disp = int64(v); in[i] == '-' {
			disp = -disp
		}
	}
	return size, rip, disp, true
}

// verdict counts what was compared, so that a comparison of nothing shows.
type verdict struct {
	mu                                   sync.Mutex
	insts, targets, disps, imms, memSize int
	kinds                                [Syscall + 1]int
	vex, evex, faults                    int
}

// compare says what is wrong with in, an instruction at off that objdump
// shows as l; nothing when all agrees.
func (v *verdict) compare(in *Inst, l line) string {
	mnemonic, operands, comment := split(l.text)
	if int(in.Len) != l.n {
		return fmt.Sprintf("length %d", in.Len)
	}
	v.insts++
	if want := kindOf(mnemonic, operands); in.Kind != want &&
		!(mnemonic == "xchg" && in.Opcode == 0x87) { // with ModRM it is not counted as a nop
		return fmt.Sprintf("kind %d, want %d", in.Kind, want)
	}
	v.kinds[in.Kind]++
	if in.EVEX {
		v.evex++
	} else if in.VEX {
		v.vex++
	}
	size, rip, disp, isMem := memory(operands)
	if in.RIP != rip {
		return fmt.Sprintf("RIP %t", in.RIP)
	}
	if in.Relative() {
		where := comment
		if !rip {
			where = operands
		}
		where, _, _ = strings.Cut(where, " ")
		want, err := strconv.ParseUint(strings.TrimPrefix(where, "0x"), 16, 64)
		got := in.Target(uint64(l.off))
		if mnemonic == "xbeginw" { // objdump truncates, but 64-bit mode does not (SDM, XBEGIN)
			got &= 0xffff
		}
		if err != nil || got != want {
			return fmt.Sprintf("target %#x, want %s", got, where)
		}
		v.targets++
	} else if isMem && in.HasModRM && !in.EVEX {
		if in.Disp != disp {
			return fmt.Sprintf("displacement %#x, want %#x", in.Disp, disp)
		}
		v.disps++
	}
	if in.MemSize != 0 && mnemonic != "nop" {
		if !isMem && in.HasModRM && !strings.Contains(operands, "s:0x") {
			return fmt.Sprintf("memory operand of %d bytes", in.MemSize)
		}
		if int(in.MemSize) < size {
			return fmt.Sprintf("memory operand of %d bytes, want %d", in.MemSize, size)
		}
		v.memSize++
	}
	return v.immediate(in, operands)
}

// immediate compares the immediate where the text ends with it.
func (v *verdict) immediate(in *Inst, operands string) string {
	last := operands[strings.LastIndexByte(operands, ',')+1:]
	if in.ImmLen == 0 || in.VEX || in.Opcode == 0xc8 && in.Map == 0 || in.Opcode == 0x78 && in.Map == 1 ||
		!strings.HasPrefix(last, "0x") {
		return ""
	}
	want, err := strconv.ParseUint(last[2:], 16, 64)
	shift := 64 - 8*in.ImmLen
	if err != nil || uint64(in.Imm)<<shift != want<<shift {
		return fmt.Sprintf("immediate %#x, want %s", in.Imm, last)
	}
	v.imms++
	return ""
}

// check compares all of p.
func (v *verdict) check(t *testing.T, p *pieces) {
	t.Helper()
	started := 0
	local := &verdict{}
	one := func(l line) {
		if !p.isCode[l.off] {
			return
		}
		if started < len(p.starts) && l.off == p.starts[started] {
			started++
		}
		code := p.flat[l.off:]
		in, err := Decode(code)
		var wrong string
		if err != nil {
			wrong = err.Error()
		} else {
			wrong = local.compare(&in, l)
		}
		if wrong == "" {
			return
		}
		if local.faults++; local.faults <= 40 {
			t.Errorf("%s: % x: %s: %s", p.name(l.off), code[:min(l.n, len(code))], l.text, wrong)
		}
	}
	objdump(t, p.flat, func(l line) {
		if l.n > 1 && p.flat[l.off] == 0x9b { // objdump joins fwait and the x87 instruction behind it
			one(line{l.off, 1, "fwait"})
			l.off, l.n = l.off+1, l.n-1
		}
		one(l)
	})
	if started != len(p.starts) {
		t.Errorf("objdump was in step at %d starts of %d", started, len(p.starts))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.insts += local.insts
	v.targets += local.targets
	v.disps += local.disps
	v.imms += local.imms
	v.memSize += local.memSize
	v.faults += local.faults
	v.vex += local.vex
	v.evex += local.evex
	for i, n := range local.kinds {
		v.kinds[i] += n
	}
}

// badText reports whether objdump knows no such instruction.
func badText(text string) bool {
	return strings.Contains(text, "(bad)") || strings.Contains(text, "{bad}")
}
