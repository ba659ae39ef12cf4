package cfi

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compiled compiles a source and returns its table and the addresses of its functions.
func compiled(t *testing.T, compiler, flag, source string) (*Table, map[string]uint64) {
	t.Helper()
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, compiler, compiler, flag, "-o", bin, src)
	return functions(t, bin)
}

func functions(t *testing.T, bin string) (*Table, map[string]uint64) {
	t.Helper()
	data, addr := section(t, bin, ".eh_frame")
	tab, err := Parse(data, addr)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	syms := map[string]uint64{}
	for _, s := range list {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Value != 0 {
			syms[s.Name] = s.Value
		}
	}
	return tab, syms
}

// memory is a few words at addresses; all else cannot be read.
type memory map[uint64]uint64

var errUnmapped = errors.New("unmapped")

func (m memory) read(addr uint64) (uint64, error) {
	if v, ok := m[addr]; ok {
		return v, nil
	}
	return 0, errUnmapped
}

func regsOf(values map[int]uint64) Regs {
	var r Regs
	for i, v := range values {
		r.Set(i, v)
	}
	return r
}

func TestStep(t *testing.T) {
	in := map[int]uint64{0: 0xa, 3: 0xb, RBP: 0x6060, RSP: 0x7000, 12: 0xc, 10: 0x4444, RA: 0x1010}
	mem := memory{0x7000: 0x2222, 0x7008: 0x3333, 0x7010: 0x5555, 0x6068: 0x6666, 0x6060: 0x6161}
	tests := []struct {
		name   string
		instrs []byte
		want   map[int]uint64
	}{
		{"just called", nil, map[int]uint64{3: 0xb, RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{
			"pushed rbx",
			[]byte{cfaDefCFAOffset, 16, cfaOffset | 3, 2},
			map[int]uint64{3: 0x2222, RBP: 0x6060, 12: 0xc, RSP: 0x7010, RA: 0x3333},
		},
		{
			"frame pointer",
			[]byte{cfaDefCFA, RBP, 16, cfaOffset | RBP, 2},
			map[int]uint64{3: 0xb, RBP: 0x6161, 12: 0xc, RSP: 0x6070, RA: 0x6666},
		},
		{"undefined", []byte{cfaUndefined, 3}, map[int]uint64{RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"same", []byte{cfaSameValue, 0}, map[int]uint64{0: 0xa, 3: 0xb, RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"in a register", []byte{cfaRegister, 3, 10}, map[int]uint64{3: 0x4444, RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"in an unknown register", []byte{cfaRegister, 3, 9}, map[int]uint64{RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"in a vector register", []byte{cfaRegister, 3, 18}, map[int]uint64{RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"return address in a register", []byte{cfaDefCFAOffset, 0, cfaRegister, RA, 10}, map[int]uint64{3: 0xb, RBP: 0x6060, 12: 0xc, RSP: 0x7000, RA: 0x4444}},
		{"offset value", []byte{cfaValOffset, 3, 2}, map[int]uint64{3: 0x6ff8, RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"own rsp", []byte{cfaOffset | RSP, 0}, map[int]uint64{3: 0xb, RBP: 0x6060, 12: 0xc, RSP: 0x3333, RA: 0x2222}},
		{"expression", []byte{cfaExpression, 3, 2, 0x23, 8}, map[int]uint64{3: 0x5555, RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"value expression", []byte{cfaValExpression, 3, 2, 0x77, 0x10}, map[int]uint64{3: 0x7010, RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"expression of unknown", []byte{cfaExpression, 3, 2, 0x79, 0}, map[int]uint64{RBP: 0x6060, 12: 0xc, RSP: 0x7008, RA: 0x2222}},
		{"CFA expression", []byte{cfaDefCFAExpression, 4, 0x77, 0, 0x23, 0x10}, map[int]uint64{3: 0xb, RBP: 0x6060, 12: 0xc, RSP: 0x7010, RA: 0x3333}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row, err := handFDE(tt.instrs...).Row(0x1010)
			if err != nil {
				t.Fatal(err)
			}
			regs := regsOf(in)
			got, err := row.Step(&regs, mem.read)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(regsOf(tt.want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestStepEnds(t *testing.T) {
	tests := []struct {
		name   string
		instrs []byte
		want   error // nil: any other than ErrOutermost
	}{
		{"outermost", []byte{cfaUndefined, RA}, ErrOutermost},
		{"return address kept", []byte{cfaSameValue, RA}, nil},
		{"return address in an unknown register", []byte{cfaRegister, RA, 9}, errUnknown},
		{"CFA of an unknown register", []byte{cfaDefCFARegister, 9}, errUnknown},
		{"rsp of an unknown register", []byte{cfaRegister, RSP, 9}, errUnknown},
		{"CFA expression of an unknown register", []byte{cfaDefCFAExpression, 2, 0x79, 0}, errUnknown},
		{"return address not readable", []byte{cfaDefCFAOffset, 0x60}, errUnmapped},
		{"register not readable", []byte{cfaOffset | 3, 0x60}, errUnmapped},
		{"expression not readable", []byte{cfaExpression, 3, 1, 0x31}, errUnmapped},
		{"bad expression", []byte{cfaValExpression, 3, 1, 0x22}, errStack},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			row, err := handFDE(tt.instrs...).Row(0x1010)
			if err != nil {
				t.Fatal(err)
			}
			regs := regsOf(map[int]uint64{RSP: 0x7000, RA: 0x1010})
			got, err := row.Step(&regs, memory{0x7000: 0x2222}.read)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && errors.Is(err, ErrOutermost) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	for name, row := range map[string]Row{"nothing": {}, "no CFA": {Regs: [17]Rule{RA: {Kind: Offset}}}} {
		if _, err := row.Step(&Regs{}, memory{}.read); err == nil || errors.Is(err, ErrOutermost) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	row := entryRow(nil)
	regs := regsOf(map[int]uint64{RSP: 0x7000})
	read := memory{0x7000: 0x2222}.read
	if n := testing.AllocsPerRun(100, func() {
		if _, err := row.Step(&regs, read); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
