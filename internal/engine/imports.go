package engine

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"

	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// loaded is a module as the dynamic linker knows it.
type loaded struct {
	*process.Module
	linkMap process.Addr // struct link_map, 0 when not known
	spaces  map[int]int  // the namespaces (dlmopen(3)) that it is in: its rank in the order of search
}

// linked returns the modules in search order. The order is that of the dynamic
// linker's list (DT_DEBUG leads to struct r_debug, link.h); modules that are
// not in it come last.
func linked(p *process.Process, mods []process.Module) []loaded {
	out := make([]loaded, 0, len(mods))
	for i := range mods {
		out = append(out, loaded{Module: &mods[i], spaces: map[int]int{}})
	}
	exe, _ := p.Exe()
	for i := range mods {
		if mods[i].Path+deletedIf(mods[i].Gone) == exe {
			linkMaps(p, &mods[i], out)
			break
		}
	}
	inOrder(out, 0)
	return out
}

// inOrder sorts modules by their rank in a namespace.
func inOrder(mods []loaded, space int) {
	sort.SliceStable(mods, func(i, j int) bool {
		ri, iok := mods[i].spaces[space]
		rj, jok := mods[j].spaces[space]
		return iok && (!jok || ri < rj)
	})
}

// spacesOf are the namespaces of the module with a bias.
func spacesOf(mods []loaded, bias process.Addr) map[int]int {
	for i := range mods {
		if mods[i].Bias == bias {
			return mods[i].spaces
		}
	}
	return nil
}

// visible are the modules in which the imports of one are looked up: those of
// its namespace and those that are in none.
func visible(mods []loaded, bias process.Addr) []loaded {
	spaces := spacesOf(mods, bias)
	if _, ok := spaces[0]; ok || len(spaces) == 0 {
		return visibleIn(mods, 0)
	}
	return visibleIn(mods, slices.Min(slices.Collect(maps.Keys(spaces))))
}

func visibleIn(mods []loaded, space int) []loaded {
	out := slices.DeleteFunc(slices.Clone(mods), func(m loaded) bool {
		_, ok := m.spaces[space]
		return !ok && len(m.spaces) > 0
	})
	inOrder(out, space)
	return out
}

func deletedIf(gone bool) string {
	if gone {
		return " (deleted)"
	}
	return ""
}

// linkMaps follows the dynamic linker's lists from the main program: that of
// each namespace, as glibc 2.35 and newer chains them. Whatever is odd in the
// process's memory ends the walk.
func linkMaps(p *process.Process, exe *process.Module, out []loaded) {
	f, err := p.File(exe)
	if err != nil {
		return
	}
	var debug uint64
	for _, ph := range f.Progs {
		if ph.Type != elf.PT_DYNAMIC {
			continue
		}
		dyn := make([]byte, min(ph.Memsz, 64<<10)&^15)
		if p.Read(exe.Bias+process.Addr(ph.Vaddr), dyn) != nil {
			return
		}
		for ; len(dyn) > 0; dyn = dyn[16:] {
			if elf.DynTag(binary.LittleEndian.Uint64(dyn)) == elf.DT_DEBUG {
				debug = binary.LittleEndian.Uint64(dyn[8:])
			}
		}
	}
	byBias := make(map[process.Addr][]*loaded, len(out))
	for i := range out {
		byBias[out[i].Bias] = append(byBias[out[i].Bias], &out[i])
	}
	// struct r_debug: r_version 0, r_map 8; from version 2 on r_next 40.
	for space := 0; debug != 0 && space < 100; space++ {
		first, _ := p.Word(process.Addr(debug) + 8)
		linkMap(p, process.Addr(first), space, byBias)
		version, _ := p.Word(process.Addr(debug))
		if debug, err = p.Word(process.Addr(debug) + 40); err != nil || int32(version) < 2 {
			return
		}
	}
}

// linkMap follows the list of one namespace. One that is a circle ends.
func linkMap(p *process.Process, entry process.Addr, space int, byBias map[process.Addr][]*loaded) {
	// struct link_map: l_addr 0, l_name 8, l_ld 16, l_next 24.
	for i := 0; entry != 0 && i < 10000; i++ {
		var b [32]byte
		if p.Read(entry, b[:]) != nil {
			return
		}
		for _, m := range byBias[process.Addr(binary.LittleEndian.Uint64(b[:]))] {
			if m.linkMap == 0 {
				m.linkMap = entry
			}
			if _, ok := m.spaces[space]; !ok {
				m.spaces[space] = i
			}
		}
		entry = process.Addr(binary.LittleEndian.Uint64(b[24:]))
	}
}

// named are the module's dynamic symbols of a name.
func (l *loaded) named(p *process.Process, name string) []elf.Symbol {
	if l.Path == "[vdso]" {
		return nil
	}
	f, err := p.File(l.Module)
	if err != nil {
		return nil
	}
	return f.Named(name)
}

const sttIfunc = 10 // STT_GNU_IFUNC

// resolve finds a symbol among the modules, as the dynamic linker would.
func resolve(p *process.Process, mods []loaded, im patch.Import) (process.Addr, error) {
	for i := range mods {
		m := &mods[i]
		for _, s := range m.named(p, im.Name) {
			if s.Section == elf.SHN_UNDEF {
				continue
			}
			if b := elf.ST_BIND(s.Info); b != elf.STB_GLOBAL && b != elf.STB_WEAK && b != elf.STB_LOOS {
				continue
			}
			if im.Version != "" && s.HasVersion && s.Version != im.Version || im.Version == "" && s.VersionIndex.IsHidden() {
				continue
			}
			switch elf.ST_TYPE(s.Info) {
			case elf.STT_TLS:
				return 0, &Reason{Code: NoImport, Function: im.Name, Module: m.Name(), Detail: "thread-local"}
			case sttIfunc:
				return boundSlot(p, mods, m, im.Name)
			}
			return m.Bias + process.Addr(s.Value), nil
		}
	}
	return 0, &Reason{Code: NoImport, Function: im.Name, Detail: "symbol " + im.Name + at(im.Version) + " is in no module of the process"}
}

func at(version string) string {
	if version == "" {
		return ""
	}
	return "@" + version
}

// boundSlot reads what the dynamic linker made of an ifunc, from a GOT slot
// for it in any module. Its resolver is not called: code of the process never is.
func boundSlot(p *process.Process, mods []loaded, def *loaded, name string) (process.Addr, error) {
	for i := range mods {
		m := &mods[i]
		if m.Path == "[vdso]" {
			continue
		}
		f, err := p.File(m.Module)
		if err != nil {
			continue
		}
		for _, s := range slotsOf(f, name) {
			v, err := p.Word(m.Bias + process.Addr(s))
			if err != nil {
				continue
			}
			for _, mm := range def.Maps {
				if mm.Prot&process.Exec != 0 && mm.Contains(process.Addr(v)) && def.Module != m.Module {
					return process.Addr(v), nil
				}
			}
		}
	}
	return 0, &Reason{Code: UnboundIfunc, Function: name, Module: def.Name(), Detail: "no module has bound it yet"}
}

// slotsOf lists the GOT slots of a symbol. Elf64_Rela: offset 8, info 8, addend 8.
func slotsOf(f *process.File, name string) []uint64 {
	var out []uint64
	syms := f.Dynamic()
	for _, s := range f.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		b, err := s.Data()
		if err != nil {
			continue
		}
		for ; len(b) >= 24; b = b[24:] {
			info := f.ByteOrder.Uint64(b[8:])
			typ, sym := elf.R_X86_64(info&0xffffffff), info>>32
			if typ != elf.R_X86_64_JMP_SLOT && typ != elf.R_X86_64_GLOB_DAT || sym == 0 || sym > uint64(len(syms)) {
				continue
			}
			if syms[sym-1].Name == name { // debug/elf leaves out the null symbol
				out = append(out, f.ByteOrder.Uint64(b))
			}
		}
	}
	return out
}

// resolveAll fills the imports of a unit. What no module has may be new in one
// of the others that are patched.
func (u *unit) resolveAll(p *process.Process, mods []loaded, others []*unit) error {
	u.imports = make([]process.Addr, len(u.patch.Imports))
	for i, im := range u.patch.Imports {
		a, err := resolve(p, mods, im)
		if reason := (*Reason)(nil); errors.As(err, &reason) && reason.Code == NoImport {
			for _, o := range others {
				if at, ok := o.export(im); ok && o.patch.ID != u.patch.ID {
					a, err = at, nil
					break
				}
			}
		}
		if err != nil {
			return fmt.Errorf("resolve imports of %s: %w", u.patch.Module, err)
		}
		u.imports[i] = a
	}
	return nil
}

// export finds a function that a patch adds to its module.
func (u *unit) export(im patch.Import) (process.Addr, bool) {
	for _, e := range u.patch.Exports {
		if e.Name == im.Name && (e.Version == im.Version || im.Version == "") {
			return u.at(uint64(e.At)), true
		}
	}
	return 0, false
}
