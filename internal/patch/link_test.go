package patch_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hotpatch/internal/buildtest"
	"hotpatch/internal/diff"
	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
)

// TestCases builds the patch for every program of internal/diff/testdata,
// links it as the engine would and follows every reference of its code.
func TestCases(t *testing.T) {
	for _, c := range buildtest.Cases(t, "../diff/testdata") {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			o := c.Compile(t, "")
			for _, v := range c.Variants {
				t.Run(v.Macro, func(t *testing.T) { buildVariant(t, o, c.Compile(t, v.Macro), v) })
			}
		})
	}
}

func buildVariant(t *testing.T, o, n buildtest.Build, v buildtest.Variant) {
	for name, ms := range map[string][2]*module.Module{"full": {o.Full, n.Full}, "stripped": {o.Stripped, n.Stripped}} {
		t.Run(name, func(t *testing.T) {
			r, err := diff.Compare(ms[0], ms[1])
			if err != nil {
				t.Fatal(err)
			}
			p, reasons, err := patch.Build(r, "test")
			if err != nil {
				t.Fatal(err)
			}
			if p == nil {
				verdict := r.Verdict
				if len(reasons) > 0 {
					verdict = diff.Refused
				}
				if string(verdict) != v.Want[0] {
					t.Fatalf("verdict %s, want %v: %v", verdict, v.Want, reasons)
				}
				only := slices.Contains(v.Want, "only") // these reasons and no other
				for _, code := range slices.DeleteFunc(slices.Clone(v.Want[1:]), func(s string) bool { return s == "only" }) {
					if verdict == diff.Refused && !slices.ContainsFunc(reasons, func(r diff.Reason) bool { return string(r.Code) == code }) {
						t.Errorf("refused for %v, not for %s", reasons, code)
					}
				}
				if i := slices.IndexFunc(reasons, func(r diff.Reason) bool { return !slices.Contains(v.Want, string(r.Code)) }); i >= 0 && only {
					t.Errorf("refused for %v, too", reasons[i])
				}
				return
			}
			if v.Want[0] != "patchable" {
				t.Errorf("a patch although it should be %v", v.Want)
			}
			data, err := p.Encode()
			if err != nil {
				t.Fatal(err)
			}
			q, err := patch.Read(data)
			if err != nil {
				t.Fatal(err)
			}
			standardTools(t, data)
			l := link(t, q, o, n)
			l.follow()
		})
	}
}

// standardTools opens the file with readelf and objdump.
func standardTools(t *testing.T, data []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.hotpatch")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"readelf", "-SsW"}, {"objdump", "-d"}} {
		cmd := exec.CommandContext(t.Context(), args[0], append(args[1:], file)...)
		out, err := cmd.CombinedOutput()
		if err != nil || bytes.Contains(bytes.ToLower(out), []byte("warning")) || bytes.Contains(out, []byte("rror:")) {
			t.Errorf("%s: %v\n%s", cmd, err, out)
		}
	}
}

// Where the test puts the two: anything will do within 2 GiB.
const (
	baseBias    = 0x5555_0000_0000
	overlayBias = baseBias + 0x2000_0000
)

// linked is an overlay in its place beside its baseline.
type linked struct {
	*testing.T
	p        *patch.Patch
	old, new buildtest.Build
	imports  map[module.Addr]string // annex fields that take an import
}

func link(t *testing.T, p *patch.Patch, o, n buildtest.Build) *linked {
	l := &linked{t, p, o, n, make(map[module.Addr]string)}
	for _, f := range p.Fixups {
		field := l.overlay(f.At, 8)
		if f.Kind == patch.RelBaseline {
			field = l.overlay(f.At, 4)
			d := int64(int32(binary.LittleEndian.Uint32(field))) + baseBias - overlayBias
			if int64(int32(d)) != d {
				t.Fatalf("fixup at %v overflows", f.At)
			}
			binary.LittleEndian.PutUint32(field, uint32(d))
			continue
		}
		add := uint64(0)
		switch f.Kind {
		case patch.AbsBaseline:
			add = baseBias
		case patch.AbsOverlay:
			add = overlayBias
		case patch.AbsImport:
			l.imports[f.At] = p.Imports[f.Import].Name
		}
		binary.LittleEndian.PutUint64(field, binary.LittleEndian.Uint64(field)+add)
	}
	return l
}

// overlay is the n bytes at a fixed image address.
func (l *linked) overlay(a module.Addr, n int) []byte {
	for _, s := range l.p.Pieces {
		if s.Addr <= a && a+module.Addr(n) <= s.Addr+module.Addr(len(s.Bytes)) {
			return s.Bytes[a-s.Addr:][:n]
		}
	}
	return nil
}

// bytes is what is at an address of the linked process.
func (l *linked) bytes(a uint64, n int) []byte {
	if b := l.overlay(module.Addr(a-overlayBias), n); b != nil {
		return b
	}
	if l.p.Span().Contains(module.Addr(a - overlayBias)) {
		return nil
	}
	s := module.Addr(a - baseBias)
	return l.old.Full.Bytes(module.Range{Start: s, End: s + module.Addr(n)})
}

// follow checks every reference of every included function.
func (l *linked) follow() {
	for _, f := range l.p.Functions {
		for k, r := range f.Fixed {
			shift := f.Ranges[k].Start - r.Start
			for a := r.Start; a < r.End; {
				code := l.overlay(a+shift, int(r.End-a))
				if code == nil {
					l.Fatalf("%s is not whole in the overlay", f.Name)
				}
				in, err := x86.Decode(code)
				if err != nil {
					l.Fatalf("%s at %v: %v", f.Name, a, err)
				}
				if in.Relative() {
					orig, err := x86.Decode(l.new.Full.Bytes(module.Range{Start: a, End: r.End}))
					if err != nil {
						l.Fatal(err)
					}
					to := in.Target(uint64(a+shift) + overlayBias)
					if in.DispLen == 1 && !r.Contains(module.Addr(orig.Target(uint64(a)))) {
						to = l.island(to)
					}
					l.reference(f.Name, a, orig.Target(uint64(a)), to, &in)
				}
				a += module.Addr(in.Len)
			}
		}
	}
}

// island is where the jmp rel32 leads to which an 8-bit branch does; 0 without one.
func (l *linked) island(a uint64) uint64 {
	if in, err := x86.Decode(l.bytes(a, 5)); err == nil && in.Kind == x86.Jmp && in.DispLen == 4 {
		return in.Target(a)
	}
	return 0
}

// reference compares where the fixed build's code at a leads, want, with where
// the linked overlay leads, got.
func (l *linked) reference(name string, a module.Addr, want, got uint64, in *x86.Inst) {
	n := l.new.Full
	w := module.Addr(want)
	lea := in.RIP && in.Map == 0 && in.Opcode == 0x8d && !in.VEX
	inOverlay := l.p.Span().Contains(module.Addr(got - overlayBias))
	desc := func() string {
		return fmt.Sprintf("%s at %v: %s becomes %#x (overlay %v)", name, a, nameAt(n, w), got, inOverlay)
	}
	sec := n.SectionAt(w)
	_, isStub := n.Stub(w)
	_, isSlot := n.RelocAt(w)
	switch {
	case sec == nil: // the end of the image
		if g := nameAt(l.old.Full, module.Addr(got-baseBias)); inOverlay || g != nameAt(n, w) {
			l.Errorf("%s, which is %s", desc(), g)
		}
	case isStub || isSlot && strings.HasPrefix(sec.Name, ".got"):
		if g, w := l.import_(got), slotName(n, w); g != w && g != w+"+0" || w == "" {
			l.Errorf("%s: leads to import %q, want %q", desc(), g, w)
		}
	case inOverlay && l.fixed(got) == w && sec.Exec:
		if f := n.FuncAt(w); lea && f.Entry() == w && in.Kind != x86.Jmp && hasOld(l.old.Full, f) {
			l.Errorf("%s: the overlay's address of a function escapes", desc())
		}
	case sec.Exec || sec.Write && !inOverlay:
		g, name := nameAt(l.old.Full, module.Addr(got-baseBias)), nameAt(n, w)
		padding := strings.HasPrefix(g, "?") && sec.NoBits && !symbolNamed(l.old.Full, strings.Split(name, "+")[0])
		if inOverlay || g != name && !padding { // a new variable may take a place between two
			l.Errorf("%s, which is %s", desc(), g)
		}
	case sec.Write && l.labelTable(a, w, got):
	case sec.Write:
		if g := nameAt(n, w); strings.HasPrefix(g, "?") || symbolNamed(l.old.Full, strings.Split(g, "+")[0]) {
			l.Errorf("%s: a second copy of a variable", desc())
		}
	case l.jumpTable(a, w, got):
	default:
		l.constant(desc, w, got, in)
	}
}

// constant compares read-only data: a symbol's whole size, a text, or what is loaded.
func (l *linked) constant(desc func() string, w module.Addr, got uint64, in *x86.Inst) {
	n := l.new.Full
	size := int(in.MemSize)
	if s, ok := symbolAt(n, w); ok && size == 0 {
		size = int(s.Addr + module.Addr(s.Size) - w)
	} else if t := n.Text(w); t != "" {
		size = max(size, len(t)+1)
	}
	size = max(size, 1)
	want, have := n.Bytes(module.Range{Start: w, End: w + module.Addr(size)}), l.bytes(got, size)
	if !bytes.Equal(want, have) {
		l.Errorf("%s: %d bytes there are %.60q, want %.60q", desc(), size, have, want)
	}
}

// fixed is where the fixed build has the included code or the new data at an
// address of the linked process; 0 when none is there.
func (l *linked) fixed(a uint64) module.Addr {
	at := module.Addr(a - overlayBias)
	for _, f := range l.p.Functions {
		for k, r := range f.Ranges {
			if r.Contains(at) {
				return f.Fixed[k].Start + at - r.Start
			}
		}
	}
	for _, v := range l.p.Variables {
		if v.At <= at && at < v.At+module.Addr(v.Fixed.Len()) {
			return v.Fixed.Start + at - v.At
		}
	}
	return 0
}

// jumpTable checks the copy of a jump table, if w is one.
func (l *linked) jumpTable(a, w module.Addr, got uint64) bool {
	for _, table := range l.new.Full.FuncAt(a).Tables {
		if table.Addr != w {
			continue
		}
		for i := range table.Targets {
			entry := l.bytes(got+uint64(4*i), 4)
			if entry == nil {
				l.Fatalf("the jump table at %v is not whole", w)
			}
			to := got + uint64(int64(int32(binary.LittleEndian.Uint32(entry))))
			if want := l.new.Full.Entry(table, i); l.fixed(to) != want {
				l.Errorf("entry %d of the jump table at %v leads to %v, want %v", i, w, l.fixed(to), want)
			}
		}
		return true
	}
	return false
}

// labelTable checks the copy of a table of labels, if w is one.
func (l *linked) labelTable(a, w module.Addr, got uint64) bool {
	f := l.new.Full.FuncAt(a)
	n := uint64(0)
	for ; ; n++ {
		r, ok := l.new.Full.RelocAt(w + module.Addr(8*n))
		to, local := r.Leads()
		if !ok || !local || !f.Contains(to) || to == f.Entry() || n > 0 && l.new.Full.AnchorAt(r.Addr) != 0 {
			return n > 0
		}
		b := l.bytes(got+8*n, 8)
		if b == nil {
			l.Fatalf("the table of labels at %v is not whole", w)
		}
		if is := l.fixed(binary.LittleEndian.Uint64(b)); is != to {
			l.Errorf("label %d of the table at %v leads to %v, want %v", n, w, is, to)
		}
	}
}

// import_ names the import that a stub or slot of the linked process leads to.
func (l *linked) import_(a uint64) string {
	at := module.Addr(a - overlayBias)
	if !l.p.Span().Contains(at) {
		return slotName(l.old.Full, module.Addr(a-baseBias))
	}
	if name, ok := l.imports[at]; ok {
		return name
	}
	if b := l.overlay(at, 10); b != nil && b[4] == 0xff && b[5] == 0x25 { // endbr64; jmp *slot
		return l.imports[at+10+module.Addr(int64(int32(binary.LittleEndian.Uint32(b[6:]))))]
	}
	if b := l.overlay(at, 8); b != nil { // a slot for an address
		v := binary.LittleEndian.Uint64(b)
		if l.p.Span().Contains(module.Addr(v - overlayBias)) {
			return nameAt(l.new.Full, l.fixed(v))
		}
		return nameAt(l.old.Full, module.Addr(v-baseBias))
	}
	return ""
}

// slotName names what a stub or a slot of a build leads to.
func slotName(m *module.Module, a module.Addr) string {
	if s, ok := m.Stub(a); ok {
		a = s
	}
	r, ok := m.RelocAt(a)
	switch {
	case !ok:
		return ""
	case r.Sym != "":
		return r.Sym
	case r.Type == elf.R_X86_64_RELATIVE || r.Type == elf.R_X86_64_IRELATIVE:
		return nameAt(m, module.Addr(r.Addend))
	}
	return fmt.Sprintf("%v %+d", r.Type, r.Addend)
}

// symbolAt is the sized symbol that holds a.
func symbolAt(m *module.Module, a module.Addr) (module.Symbol, bool) {
	for _, s := range m.Symbols {
		if s.Defined && s.Type != elf.STT_TLS && s.Name != "" && s.Addr <= a && a < s.Addr+module.Addr(s.Size) {
			return s, true
		}
	}
	return module.Symbol{}, false
}

// nameAt names an address by its symbol; the first of several by name.
func nameAt(m *module.Module, a module.Addr) string {
	best, off := "", module.Addr(0)
	for _, s := range m.Symbols {
		if s.Defined && s.Type != elf.STT_TLS && s.Name != "" && s.Addr <= a && (a < s.Addr+module.Addr(s.Size) || s.Addr == a) {
			if best == "" || s.Name < best && s.Size > 0 {
				best, off = s.Name, a-s.Addr
			}
		}
	}
	if best == "" {
		return "?" + a.String()
	}
	return fmt.Sprintf("%s+%d", best, off)
}

func symbolNamed(m *module.Module, name string) bool {
	return slices.ContainsFunc(m.Symbols, func(s module.Symbol) bool { return s.Defined && s.Name == name })
}

func hasOld(m *module.Module, f *module.Func) bool {
	return slices.ContainsFunc(f.Names, func(n string) bool { return symbolNamed(m, n) })
}
