package diff

import (
	"bytes"
	"strings"

	"hotpatch/internal/module"
)

// runtimeVTable is how the names of the vtables begin that type information
// points into.
const runtimeVTable = "_ZTVN10__cxxabiv1"

// typeInfo is the name of the class whose type information lies at a: a pointer
// into a vtable of the run-time library, then one to the name (Itanium C++ ABI,
// 2.9.5). Not ok when there is none.
func typeInfo(m *module.Module, a module.Addr) (name string, ok bool) {
	r, _ := m.RelocAt(a)
	n, _ := m.RelocAt(a + 8)
	to, named := n.Leads()
	if into, _ := r.Leads(); !named || !strings.HasPrefix(r.Sym, runtimeVTable) && !strings.HasPrefix(m.CopiedAt(into), runtimeVTable) {
		return "", false
	}
	return m.Text(to), true
}

// Class reports whether a C++ class's type information lies at a, or a vtable
// has its address point there, which has a number and a pointer to type
// information before it (2.5.2).
func Class(m *module.Module, a module.Addr) bool {
	if _, ok := typeInfo(m, a); ok {
		return true
	}
	_, pointer := m.RelocAt(a - 16)
	r, _ := m.RelocAt(a - 8)
	to, ok := r.Leads()
	_, class := typeInfo(m, to)
	return !pointer && ok && class
}

// vtableEnd is where the functions of the vtable with its address point at a
// end; 0 where there is none.
func vtableEnd(m *module.Module, a module.Addr) module.Addr {
	if _, info := typeInfo(m, a); info || !Class(m, a) {
		return 0
	}
	for {
		r, _ := m.RelocAt(a)
		to, ok := r.Leads()
		if s := m.SectionAt(to); !ok || s == nil || !s.Exec {
			return a
		}
		a += 8
	}
}

// classes are the addresses of a module's type information and of its vtables,
// by the name of the class. Of a name that several have none is listed.
func classes(m *module.Module) map[string]module.Addr {
	out := make(map[string]module.Addr)
	add := func(name string, a module.Addr) {
		if _, twice := out[name]; twice {
			a = 0
		}
		out[name] = a
	}
	for _, r := range m.Relocs {
		if name, ok := typeInfo(m, r.Addr); ok && name != "" {
			add("type "+name, r.Addr)
		}
		to, ok := r.Leads()
		name, class := typeInfo(m, to)
		top := m.Bytes(module.Range{Start: r.Addr - 8, End: r.Addr})
		if ok && class && name != "" && Class(m, r.Addr+8) && top != nil && bytes.Count(top, []byte{0}) == len(top) {
			add("vtable "+name, r.Addr+8)
		}
	}
	return out
}

// namedSlots pairs what has the same name in both builds without being a
// symbol: type information, vtables, and the slots of the unwind tables that
// the loader fills (DW.ref.*), of which a module has one for each symbol.
func namedSlots(old, new *module.Module) (out [][2]module.Addr) {
	slots := func(m *module.Module) map[string]module.Addr {
		out := classes(m)
		for i := range m.CFI.FDEs {
			for _, a := range m.Handlers(&m.CFI.FDEs[i]) {
				if r, ok := m.RelocAt(a); ok && r.Sym != "" {
					out["slot "+r.Sym+"@"+r.Version] = a
				}
			}
		}
		return out
	}
	news := slots(new)
	for name, o := range slots(old) {
		if n := news[name]; o != 0 && n != 0 {
			out = append(out, [2]module.Addr{o, n})
		}
	}
	return out
}
