package module

import "hotpatch/internal/module/cfi"

// LSDA is the exception table of a frame; not ok when it has none that can be read.
func (m *Module) LSDA(f *cfi.FDE) (l cfi.LSDA, ok bool) {
	s := m.SectionAt(Addr(f.LSDA.Value))
	if f.LSDA.Enc == 0xff || f.LSDA.Value == 0 || s == nil {
		return cfi.LSDA{}, false
	}
	l, err := cfi.ParseLSDA(m.Bytes(s.Range), uint64(s.Start), f.LSDA.Value, f.Start)
	return l, err == nil
}

// Handlers is what the unwind information of a frame leads to: the personality
// routine first, then the types of its exception table. Often they are slots
// that the loader fills (DW.ref.*). An address of 0 stands for none.
func (m *Module) Handlers(f *cfi.FDE) []Addr {
	out := []Addr{0}
	if p := f.CIE.Personality; p.Enc != 0xff {
		out[0] = Addr(p.Value)
	}
	if l, ok := m.LSDA(f); ok {
		for _, t := range l.Types {
			out = append(out, Addr(t.Value))
		}
	}
	return out
}
