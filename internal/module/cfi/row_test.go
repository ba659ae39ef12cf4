package cfi

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// handFDE is an FDE at 0x1000..0x1100 with instructions made by hand, of a CIE
// like the usual one: CFA = rsp+8, return address at CFA-8.
func handFDE(instrs ...byte) *FDE {
	cie := &CIE{
		Off: 0x40, CodeAlign: 1, DataAlign: -8, Return: RA, Personality: Pointer{Enc: encOmit}, LSDAEnc: encOmit,
		Instrs: []byte{cfaDefCFA, RSP, 8, cfaOffset | RA, 1, cfaNop},
	}
	return &FDE{Off: 0x80, Start: 0x1000, End: 0x1100, CIE: cie, Instrs: instrs, InstrAddr: 0x9000}
}

// entryRow is the row of handFDE() with changes.
func entryRow(change func(*Row)) Row {
	r := Row{CFA: Rule{Kind: Register, Reg: RSP, Off: 8}}
	r.Regs[RA] = Rule{Kind: Offset, Off: -8}
	if change != nil {
		change(&r)
	}
	return r
}

func TestRowInstructions(t *testing.T) {
	set := func(reg int, rule Rule) func(*Row) { return func(r *Row) { r.Regs[reg] = rule } }
	cfa := func(rule Rule) func(*Row) { return func(r *Row) { r.CFA = rule } }
	tests := []struct {
		name   string
		instrs []byte
		want   func(*Row)
	}{
		{"none", nil, nil},
		{"offset", []byte{cfaOffset | 3, 2}, set(3, Rule{Kind: Offset, Off: -16})},
		{"offset_extended", []byte{cfaOffsetExtended, 12, 0x80, 1}, set(12, Rule{Kind: Offset, Off: -1024})},
		{"offset_extended_sf", []byte{cfaOffsetExtendedSF, 12, 0x7e}, set(12, Rule{Kind: Offset, Off: 16})},
		{"negative_offset_extended", []byte{cfaGNUNegOffsetExtended, 12, 2}, set(12, Rule{Kind: Offset, Off: 16})},
		{"val_offset", []byte{cfaValOffset, RBP, 2}, set(RBP, Rule{Kind: ValOffset, Off: -16})},
		{"val_offset_sf", []byte{cfaValOffsetSF, RBP, 0x7f}, set(RBP, Rule{Kind: ValOffset, Off: 8})},
		{"register", []byte{cfaRegister, RA, 10}, set(RA, Rule{Kind: Register, Reg: 10})},
		{"undefined", []byte{cfaUndefined, RA}, set(RA, Rule{Kind: Undefined})},
		{"same_value", []byte{cfaSameValue, 3}, set(3, Rule{Kind: Same})},
		{"expression", []byte{cfaExpression, 3, 2, 0x77, 8}, set(3, Rule{Kind: Expr, Expr: []byte{0x77, 8}})},
		{"val_expression", []byte{cfaValExpression, 3, 2, 0x77, 8}, set(3, Rule{Kind: ValExpr, Expr: []byte{0x77, 8}})},
		{"restore", []byte{cfaOffset | RA, 9, cfaRestore | RA}, nil},
		{"restore of no rule", []byte{cfaOffset | 3, 9, cfaRestore | 3}, nil},
		{"restore_extended", []byte{cfaUndefined, RA, cfaRestoreExtended, RA}, nil},
		{"args_size", []byte{cfaGNUArgsSize, 0x80, 1}, nil},
		{"vector register", []byte{cfaOffsetExtended, 17 + 6, 4, cfaUndefined, 0x81, 1, cfaRestore | 30}, nil},
		{"def_cfa", []byte{cfaDefCFA, RBP, 16}, cfa(Rule{Kind: Register, Reg: RBP, Off: 16})},
		{"def_cfa_sf", []byte{cfaDefCFASF, RBP, 0x7e}, cfa(Rule{Kind: Register, Reg: RBP, Off: 16})},
		{"def_cfa_register", []byte{cfaDefCFARegister, RBP}, cfa(Rule{Kind: Register, Reg: RBP, Off: 8})},
		{"def_cfa_offset", []byte{cfaDefCFAOffset, 0x90, 1}, cfa(Rule{Kind: Register, Reg: RSP, Off: 144})},
		{"def_cfa_offset_sf", []byte{cfaDefCFAOffsetSF, 0x7d}, cfa(Rule{Kind: Register, Reg: RSP, Off: 24})},
		{"def_cfa_expression", []byte{cfaDefCFAExpression, 1, 0x30}, cfa(Rule{Kind: ValExpr, Off: 8, Expr: []byte{0x30}})},
		{
			"expression, then a register",
			[]byte{cfaDefCFAOffset, 56, cfaDefCFAExpression, 1, 0x30, cfaDefCFARegister, RSP},
			cfa(Rule{Kind: Register, Reg: RSP, Off: 56}),
		},
		{"remember and restore", []byte{cfaRememberState, cfaDefCFA, 0, 0, cfaOffset | 3, 2, cfaRestoreState}, nil},
		{
			"nested states",
			[]byte{
				cfaRememberState, cfaOffset | 3, 2, cfaRememberState, cfaOffset | 3, 3, cfaRememberState, cfaOffset | 3, 4,
				cfaRestoreState, cfaRestoreState,
			},
			set(3, Rule{Kind: Offset, Off: -16}),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := handFDE(tt.instrs...).Row(0x1000)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(entryRow(tt.want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Every kind of advance: the CFA's offset says how far execution came.
func TestRowAdvances(t *testing.T) {
	instrs := []byte{
		cfaDefCFAOffset, 1, cfaAdvanceLoc | 0x10, cfaDefCFAOffset, 2, cfaAdvanceLoc1, 0x10, cfaDefCFAOffset, 3,
		cfaAdvanceLoc2, 0x10, 0, cfaDefCFAOffset, 4, cfaAdvanceLoc4, 0x10, 0, 0, 0, cfaDefCFAOffset, 5,
		cfaAdvanceLoc, cfaDefCFAOffset, 6, cfaSetLoc, 0x80, 0x10, 0, 0, 0, 0, 0, 0, cfaDefCFAOffset, 7,
	}
	f := handFDE(instrs...)
	for pc, want := range map[uint64]int64{
		0x1000: 1, 0x100f: 1, 0x1010: 2, 0x101f: 2, 0x1020: 3, 0x102f: 3, 0x1030: 4, 0x103f: 4,
		0x1040: 6, 0x107f: 6, 0x1080: 7, 0x10ff: 7,
	} {
		r, err := f.Row(pc)
		if err != nil || r.CFA.Off != want {
			t.Errorf("row at %#x: got %d, %v; want %d", pc, r.CFA.Off, err, want)
		}
	}
	f.CIE.CodeAlign = 2
	if r, err := f.Row(0x101f); err != nil || r.CFA.Off != 1 {
		t.Errorf("with code alignment 2: got %d, %v; want 1", r.CFA.Off, err)
	}
	f.CIE.CodeAlign, f.CIE.FDEEnc = 1, encPCRel|encSdata4
	f.Instrs = append([]byte{cfaSetLoc}, append(binary.LittleEndian.AppendUint32(nil, 0xffff8020-1), cfaDefCFAOffset, 9)...)
	if r, err := f.Row(0x1020); err != nil || r.CFA.Off != 9 { // 0x9001 - 0x7fe1
		t.Errorf("pcrel set_loc: got %d, %v; want 9", r.CFA.Off, err)
	}
}

func TestRowMalformed(t *testing.T) {
	tests := []struct {
		name   string
		instrs []byte
		want   string
	}{
		{"unknown", []byte{cfaNop, 0x2d}, "instruction 0x1 of the FDE at offset 0x80: call-frame instruction 0x2d"},
		{"truncated", []byte{cfaOffset | 3}, "truncated"},
		{"expression truncated", []byte{cfaExpression, 3, 9, 0}, "truncated"},
		{"advance truncated", []byte{cfaAdvanceLoc4, 1, 0}, "truncated"},
		{"long number", append([]byte{cfaDefCFAOffset}, strings.Repeat("\xff", 10)...), "LEB128"},
		{"restore without remember", []byte{cfaRestoreState}, "restore_state"},
		{"too many states", []byte(strings.Repeat("\x0a", maxRemembered+1)), "restore_state"},
		{"backward", []byte{cfaAdvanceLoc | 8, cfaSetLoc, 0, 0x10, 0, 0, 0, 0, 0, 0}, "backward"},
		{"CFA in a vector register", []byte{cfaDefCFA, 17, 0}, "CFA in register 17"},
		{"huge register", []byte{cfaRegister, 3, 0x80, 2}, "register 256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := handFDE(tt.instrs...).Row(0x10ff)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	for name, instrs := range map[string][]byte{
		"advance": {cfaAdvanceLoc | 1}, "restore": {cfaRestore | 3}, "no CFA": {cfaDefCFAOffset, 1}, "no CFA register": {cfaDefCFARegister, 1},
	} {
		f := handFDE()
		f.CIE.Instrs = instrs
		if _, err := f.Row(0x1000); err == nil || !strings.Contains(err.Error(), "of the CIE at offset 0x40") {
			t.Errorf("%s in a CIE: got %v", name, err)
		}
	}
	for _, pc := range []uint64{0xfff, 0x1100} {
		if _, err := handFDE().Row(pc); err == nil {
			t.Errorf("no error at %#x", pc)
		}
	}
}

func TestRowDoesNotAllocate(t *testing.T) {
	f := handFDE(cfaAdvanceLoc|1, cfaRememberState, cfaDefCFAOffset, 16, cfaOffset|3, 2, cfaAdvanceLoc|1, cfaRestoreState)
	n := testing.AllocsPerRun(100, func() {
		if _, err := f.Row(0x1010); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEntryIsCall(t *testing.T) {
	tests := []struct {
		instrs []byte
		want   bool
	}{
		{nil, true},
		{[]byte{cfaSameValue, 3}, true},
		{[]byte{cfaAdvanceLoc | 1, cfaDefCFAOffset, 16}, true},
		{[]byte{cfaDefCFAOffset, 16}, false},
		{[]byte{cfaDefCFARegister, RBP}, false},
		{[]byte{cfaOffset | 3, 2}, false},
		{[]byte{cfaUndefined, RA}, false},
		{[]byte{cfaOffset | RA, 2}, false},
		{[]byte{cfaDefCFAExpression, 1, 0x30}, false},
	}
	for _, tt := range tests {
		if got, err := handFDE(tt.instrs...).EntryIsCall(); err != nil || got != tt.want {
			t.Errorf("% x: got %v, %v; want %v", tt.instrs, got, err, tt.want)
		}
	}
	if _, err := handFDE(0x3f).EntryIsCall(); err == nil {
		t.Error("no error for a bad instruction")
	}
}

func TestEntryIsCallOfColdPart(t *testing.T) {
	tab, syms := compiled(t, "gcc", "-O2", coldSource)
	got := map[string]bool{}
	for name, addr := range syms {
		f := tab.Find(addr)
		if f == nil || f.Start != addr {
			continue
		}
		is, err := f.EntryIsCall()
		if err != nil {
			t.Error(err)
		}
		got[name] = is
	}
	for name, want := range map[string]bool{"work": true, "work.cold": false, "main": true} {
		if is, ok := got[name]; !ok || is != want {
			t.Errorf("%s: got %v (found %v), want %v", name, is, ok, want)
		}
	}
}

const coldSource = `
#include <stdlib.h>
int table[100];
__attribute__((noinline, cold)) void trouble(int a, int b) { table[a] = b; }
__attribute__((noinline)) int other(int a) { return table[a] + table[a + 1]; }
__attribute__((noinline)) int work(int a, int b, int c) {
	int x = rand() + a, y = rand() + b;
	if (x == y) {
		trouble(x, y);
		trouble(y, c);
		return other(c);
	}
	return other(x) + other(y) + other(c);
}
int main(int n, char **v) { return work(n, n + 1, n + 2); }
`
