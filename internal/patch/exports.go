package patch

import (
	"debug/elf"
)

// export lists the functions in the overlay that the baseline did not export.
func (b *builder) export() {
	old := make(map[string]bool)
	for _, s := range b.Old.Symbols {
		if s.Dynamic && s.Defined {
			old[s.Name+"@"+s.Version] = true
		}
	}
	for _, s := range b.New.Symbols {
		if !s.Dynamic || !s.Defined || s.Type != elf.STT_FUNC || old[s.Name+"@"+s.Version] {
			continue
		}
		if f := b.New.FuncAt(s.Addr); f != nil && b.included[f] && b.OldOf(f) == nil {
			b.out.Exports = append(b.out.Exports, Export{Name: s.Name, Version: s.Version, At: b.at(s.Addr)})
		}
	}
}
