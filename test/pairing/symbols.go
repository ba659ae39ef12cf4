package main

import (
	"bytes"
	"debug/elf"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"hotpatch/internal/module"
)

// object is what one symbol says: a function or a variable.
type object struct {
	key   string // file of a local symbol, and its name
	start module.Addr
	size  uint64
}

// symbols are those of one build, the truth about its addresses.
type symbols struct {
	starts map[module.Addr][]object
	data   []object // those with a size that are no functions, by address
	byKey  map[string][]object
}

// The compiler numbers static variables of functions, anew in each build.
var numbered = regexp.MustCompile(`\.[0-9]+$`)

// readSymbols reads the symbol table of a build that was not stripped, but for
// the compiler's own labels, which it numbers anew in each build. A name
// that several symbols of one file share is told apart by their order where
// both builds have as many; see match.
func readSymbols(data []byte) (*symbols, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("read symbols: %w", err)
	}
	s := &symbols{starts: map[module.Addr][]object{}, byKey: map[string][]object{}}
	file := ""
	for _, y := range all {
		kind := elf.ST_TYPE(y.Info)
		if kind == elf.STT_FILE {
			file = y.Name
			continue
		}
		if y.Section == elf.SHN_UNDEF || y.Section >= elf.SHN_LORESERVE || y.Name == "" || strings.HasPrefix(y.Name, ".L") || kind == elf.STT_SECTION || kind == elf.STT_TLS {
			continue
		}
		name, _, _ := strings.Cut(y.Name, "@")
		function := kind == elf.STT_FUNC || kind == elf.STT_GNU_IFUNC
		if !function {
			name = numbered.ReplaceAllString(name, "")
		}
		o := object{key: name, start: module.Addr(y.Value), size: y.Size}
		if elf.ST_BIND(y.Info) == elf.STB_LOCAL {
			o.key = file + ": " + name
		}
		s.starts[o.start] = append(s.starts[o.start], o)
		if !slices.ContainsFunc(s.byKey[o.key], func(h object) bool { return h.start == o.start }) {
			s.byKey[o.key] = append(s.byKey[o.key], o)
		}
		if !function && o.size > 0 {
			s.data = append(s.data, o)
		}
	}
	slices.SortFunc(s.data, func(x, y object) int { return int(int64(x.start) - int64(y.start)) })
	for _, list := range s.byKey {
		slices.SortFunc(list, func(x, y object) int { return int(int64(x.start) - int64(y.start)) })
	}
	return s, nil
}

// label is a name for an address that means the same in both builds, and how
// far behind the named object's start it lies.
type label struct {
	key string
	off uint64
}

// at gives the names of an address: objects that start there or hold it.
func (s *symbols) at(a module.Addr, other *symbols) (names []label, vague bool) {
	add := func(o object) {
		mine, theirs := s.byKey[o.key], other.byKey[o.key]
		key := o.key
		if len(mine) > 1 || len(theirs) > 1 {
			if len(mine) != len(theirs) {
				vague = true
				return
			}
			i := slices.IndexFunc(mine, func(m object) bool { return m.start == o.start })
			key = fmt.Sprintf("%s (%d of %d)", key, i+1, len(mine))
		}
		if l := (label{key, uint64(a - o.start)}); !slices.Contains(names, l) {
			names = append(names, l)
		}
	}
	for _, o := range s.starts[a] {
		add(o)
	}
	if len(names) > 0 || vague {
		return names, vague
	}
	i := sort.Search(len(s.data), func(i int) bool { return s.data[i].start > a })
	for i--; i >= 0 && s.data[i].start+1<<20 > a; i-- {
		if o := s.data[i]; o.start+module.Addr(o.size) > a {
			add(o)
		}
	}
	return names, vague
}

// end says that an object ends at an address: code may mean its end and not
// what lies behind it.
func (s *symbols) end(a module.Addr) []string {
	var out []string
	i := sort.Search(len(s.data), func(i int) bool { return s.data[i].start >= a })
	for i--; i >= 0 && s.data[i].start+1<<20 > a; i-- {
		if o := s.data[i]; o.start+module.Addr(o.size) == a {
			out = append(out, o.key)
		}
	}
	return out
}
