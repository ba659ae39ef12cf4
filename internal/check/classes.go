package check

import (
	"debug/elf"
	"slices"
	"strings"
)

// typeInfo reports whether a is type information of a class, and the name in it
// (Itanium C++ ABI, 2.9.5: a pointer into a vtable of the run-time library,
// then one to the name).
func (m *image) typeInfo(a uint64) (name string, ok bool) {
	i, ok := m.relocAt[a]
	if !ok || !strings.HasPrefix(m.relocs[i].sym, runtimeVTable) && !m.intoCopy(&m.relocs[i]) {
		return "", false
	}
	if i, ok := m.relocAt[a+8]; ok {
		to, _ := m.relocs[i].leads()
		name = string(m.text(to))
	}
	return name, true
}

const runtimeVTable = "_ZTVN10__cxxabiv1"

// intoCopy reports whether a pointer leads into a vtable of the run-time library
// that the loader copies into the program.
func (m *image) intoCopy(r *reloc) bool {
	if len(m.absolutes) == 0 {
		return false
	}
	to, _ := r.leads()
	return slices.ContainsFunc(m.objectsAt(to), func(o object) bool {
		i, ok := m.relocAt[o.start]
		return ok && m.relocs[i].typ == elf.R_X86_64_COPY && strings.HasPrefix(o.key, "dynamic "+runtimeVTable)
	})
}

// vtable reports whether a is the address point of a vtable, and of which class
// (2.5.2: a number and a pointer to type information lie before it). The number
// is 0 in the vtable of the class itself.
func (m *image) vtable(a uint64) (name string, own, ok bool) {
	i, ok := m.relocAt[a-8]
	if _, pointer := m.relocAt[a-16]; !ok || pointer {
		return "", false, false
	}
	to, _ := m.relocs[i].leads()
	name, ok = m.typeInfo(to)
	return name, uint64FromLE(m.bytes(a-16, 8)) == 0, ok
}

// slots are the pointers of the vtable with its address point at a.
func (m *image) slots(a uint64) (out []reloc) {
	for ; ; a += 8 {
		i, ok := m.relocAt[a]
		if _, info := m.typeInfo(a); !ok || info {
			return out
		}
		out = append(out, m.relocs[i])
	}
}

// classes are the addresses of type information and of vtables by the name of
// their class; 0 where a name has several.
func (m *image) classes() map[string]uint64 {
	out := make(map[string]uint64)
	add := func(name string, a uint64) {
		if _, twice := out[name]; twice {
			a = 0
		}
		out[name] = a
	}
	for i := range m.relocs {
		at := m.relocs[i].at
		if name, ok := m.typeInfo(at); ok && name != "" {
			add("type "+name, at)
		}
		if name, own, ok := m.vtable(at + 8); ok && own && name != "" {
			add("vtable "+name, at+8)
		}
	}
	return out
}
