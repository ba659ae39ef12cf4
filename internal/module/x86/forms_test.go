package x86

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// operandForms are ModRM bytes of each addressing mode with what follows them.
var operandForms = []string{
	"\x01",                     // [rcx]
	"\x04\x88",                 // [rax+rcx*4]
	"\x05\x11\x22\x33\x04",     // [rip+0x4332211]
	"\x43\x11",                 // [rbx+0x11]
	"\x84\x8b\x11\x22\x33\xf4", // [rbx+rcx*4-0xbccddef]
	"\xc1",
	"\x04\x25\x11\x22\x33\x44", // [0x44332211]
	"\x44\x98\xf1",             // [rax+rbx*4-0xf]
	"\x80\x11\x22\x33\x74",     // [rax+0x74332211]
	"\xc0", "\xc2", "\xc3", "\xc4", "\xc5", "\xc6", "\xc7",
}

const tail = "\x12\x34\x56\x78" // for immediates, with the pad behind it

// forms adds lead, which ends with an opcode, with the first n operand forms
// and the first regs values of ModRM.reg.
func (p *pieces) forms(label string, lead []byte, regs, n int) {
	for reg := range regs {
		for _, f := range operandForms[:n] {
			b := append(bytes.Clone(lead), f...)
			b[len(lead)] |= byte(reg << 3)
			p.add(label, append(b, tail...))
		}
	}
}

// TestLegacyForms compares every opcode of the legacy maps, with every
// mandatory prefix, ModRM.reg and addressing mode.
func TestLegacyForms(t *testing.T) {
	prefixes := []struct {
		label, bytes string
		regs, n      int
	}{
		{"none", "", 8, 16},
		{"66", "\x66", 8, 16},
		{"f3", "\xf3", 8, 16},
		{"f2", "\xf2", 8, 16},
		{"none", "\x48", 1, 6},
		{"none", "\x67", 1, 6},
		{"none", "\x2e\x65\x4d", 1, 6},
		{"66", "\x66\x48", 1, 6},
		{"f2", "\x66\xf2\x45", 1, 6},
		{"f3", "\xf3\x49", 1, 6},
	}
	for i, m := range []string{"", "\x0f", "\x0f\x38", "\x0f\x3a"} {
		p := &pieces{}
		for _, pre := range prefixes {
			for op := range 256 {
				lead := append([]byte(pre.bytes+m), byte(op))
				label := fmt.Sprintf("% x %02x %s", m, op, pre.label)
				switch in, err := Decode(append(bytes.Clone(lead), make([]byte, 9)...)); {
				case i == 0 && oneByte[op]&prefix != 0, i == 1 && (op == 0x38 || op == 0x3a):
				case err == nil && !in.HasModRM:
					p.add(label, append(lead, tail...))
				default:
					p.forms(label, lead, pre.regs, pre.n)
				}
			}
		}
		t.Run(fmt.Sprintf("map%d", i), func(t *testing.T) {
			t.Parallel()
			new(verdict).checkForms(t, p)
		})
	}
}

// TestVectorForms does the same for VEX, EVEX and XOP with W and vector
// length; all of ModRM.reg only where it is part of the opcode.
func TestVectorForms(t *testing.T) {
	parts := map[string]*pieces{}
	add := func(name string, lead []byte, pp byte, n int) {
		if parts[name] == nil {
			parts[name] = &pieces{}
		}
		op, regs := lead[len(lead)-1], 1
		if bytes.IndexByte([]byte{0x01, 0x02, 0x12, 0x71, 0x72, 0x73, 0xae, 0xc6, 0xc7, 0xf3}, op) >= 0 {
			regs = 8
		}
		parts[name].forms(fmt.Sprintf("%s %02x %s", name, op, []string{"none", "66", "f3", "f2"}[pp]), lead, regs, n)
	}
	for i := range 256 * 16 {
		op, pp, w, l := byte(i>>4), byte(i&3), byte(i&4)<<5, byte(i&8)>>1
		for m := byte(1); m <= 3; m++ {
			add(fmt.Sprintf("vex%d", m), []byte{0xc4, 0xe0 | m, w | 0x78 | l | pp, op}, pp, 6)
			if m == 2 { // with vvvv 5: tiles and gathers want registers that differ
				add("vex2", []byte{0xc4, 0xe2, w | 0x50 | l | pp, op}, pp, 6)
			}
			if pp == 0 {
				add(fmt.Sprintf("xop%d", m+7), []byte{0x8f, 0xe7 + m, w | 0x78 | l, op}, pp, 6)
			}
		}
		for _, m := range []byte{1, 2, 3, 5, 6} {
			name := fmt.Sprintf("evex%d", m)
			p0, p1 := 0xf0|m, w|0x7c|pp
			add(name, []byte{0x62, p0, p1, 0x08 | l<<3, op}, pp, 6)
			add(name, []byte{0x62, p0, p1 ^ 0x28, 0x49, op}, pp, 6) // vvvv 5, zmm, k1
			add(name, []byte{0x62, p0, p1, 0x49, op}, pp, 6)        // zmm, k1
			add(name, []byte{0x62, p0, p1, 0x1a | l<<3, op}, pp, 6) // broadcast or rounding, k2
		}
	}
	for name, p := range parts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			new(verdict).checkForms(t, p)
		})
	}
}

// newer than binutils 2.40: SHA512, SM3, SM4, AVX-VNNI-INT16, AMX-COMPLEX.
const newer = `
vex2 cb f2, vex2 cc f2, vex2 cd f2,
vex2 da none, vex2 da 66, vex2 da f3, vex2 da f2, vex3 de 66,
vex2 d2 none, vex2 d2 66, vex2 d2 f3, vex2 d3 none, vex2 d3 66, vex2 d3 f3,
vex2 6c none, vex2 6c 66,`

// lax are opcodes that objdump shows although the mandatory prefix, the kind of
// operand or ModRM.reg is wrong (SDM volume 2): Decode refuses them.
const lax = `
evex1 e7 66, evex2 4e none, evex2 4e f3, evex2 4e f2, evex2 50 none, evex2 50 f3, evex2 50 f2,
evex2 51 none, evex2 51 f3, evex2 51 f2, evex3 42 none, evex3 42 f3, evex3 42 f2,
evex3 70 none, evex3 70 f3, evex3 70 f2, evex3 72 none, evex3 72 f3, evex3 72 f2,
vex1 77 66, vex1 77 f3, vex1 77 f2, vex1 ae 66, vex1 ae f3, vex1 ae f2,
0f 20 none, 0f 20 66, 0f 20 f3, 0f 20 f2, 0f 21 none, 0f 21 66, 0f 21 f3, 0f 21 f2,
0f 22 none, 0f 22 66, 0f 22 f3, 0f 22 f2, 0f 23 none, 0f 23 66, 0f 23 f3, 0f 23 f2,
0f 78 66, 0f d7 f3, 0f d7 f2,`

// checkForms compares the first instruction of each piece. What objdump knows
// must agree in full. Decode may accept more operands than objdump, W and
// vector length above all, but no opcode that objdump does not know.
func (v *verdict) checkForms(t *testing.T, p *pieces) {
	t.Helper()
	next := 0
	known, accepted := map[string]bool{}, map[string]bool{}
	objdump(t, p.flat, func(l line) {
		if next == len(p.starts) || l.off != p.starts[next] {
			return
		}
		label := strings.TrimSpace(p.names[next])
		next++
		code := p.flat[l.off:]
		in, err := Decode(code)
		bad := badText(l.text)
		known[label] = known[label] || !bad
		accepted[label] = accepted[label] || err == nil
		wrong := ""
		switch {
		case bad || err != nil && strings.Contains(lax, "\n"+label+",") || strings.Contains(lax, " "+label+","):
		case err != nil:
			wrong = err.Error()
		default:
			wrong = v.compare(&in, l)
		}
		if v.faults < 40 && wrong != "" {
			v.faults++
			t.Errorf("% x: %s: %s", code[:15], l.text, wrong)
		}
	})
	if next != len(p.starts) {
		t.Errorf("objdump was in step at %d starts of %d", next, len(p.starts))
	}
	for label := range accepted {
		if accepted[label] && !known[label] && !strings.Contains(newer, label+",") {
			t.Errorf("%s is an opcode only to Decode", label)
		}
	}
	t.Logf("%d forms are instructions", v.insts)
}
