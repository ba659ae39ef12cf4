package live

import "hotpatch/internal/diff"

// cxxCases are the targets in C++.
var cxxCases = []testCase{
	{name: "exceptions", source: "throw.cc", changed: exceptionsChanged, asks: exceptionAsks},
	{name: "virtual", source: "virtual.cc", changed: virtualChanged, asks: virtualAsks},
	{name: "virtual-relr", source: "virtual.cc", forms: []form{linked}, flags: []string{"-Wl,-z,pack-relative-relocs"}, changed: virtualChanged, has: ".relr.dyn", asks: virtualAsks},
	{name: "exceptions-lto", source: "throw.cc", forms: []form{program}, flags: []string{"-flto"}, changed: exceptionsChanged, asks: exceptionAsks},
	{name: "templates", source: "templates.cc", forms: []form{program, loaded}, changed: "_ZNK4ListI3TagILi11EEE4sizeEv", asks: []ask{{cmd: "ask 2", old: "9765", fixed: "22833"}}},
	{name: "new-class", source: "newclass.cc", denied: diff.UnpairedData},
}

const exceptionsChanged = "_ZL7catcheri _ZL7passagei _ZL7throweri"

var exceptionAsks = []ask{
	{cmd: "throw 1", old: "1 1", fixed: "1 10"},
	{cmd: "throw 4", old: "4 1", fixed: "too large, says the fixed build 4 10"},
	{cmd: "throw 5", old: "too large 5 1", fixed: "too large, says the fixed build 5 10"},
	{cmd: "pass 0", old: "mine 7 2", fixed: "mine 7 200"},
	{cmd: "pass 1", old: "range 2", fixed: "range 200"},
	{cmd: "pass 2", old: "int 42 2", fixed: "int 42 200"},
	{cmd: "pass 3", old: "-1 2", fixed: "-2 200"},
	{cmd: "catch 0", old: "12 3", fixed: "507 3000"},
	{cmd: "catch 1", old: "11 3", fixed: "605 3000"},
	{cmd: "catch 2", old: "42 3", fixed: "rethrown 42 3000"},
	{cmd: "catch 3", old: "0 3", fixed: "0 3000"},
}

const virtualChanged = "_ZL4kindP4Base _ZL6createi _ZNK4Base5valueEv _ZNK4Both5valueEv _ZNK5Right4nameEv"

var virtualAsks = []ask{
	{cmd: "keep 0", old: "kept", fixed: "kept"},
	{cmd: "ask", old: "1 base 8 0", fixed: "1001 base 32 0"},
	{cmd: "keep 1", old: "kept", fixed: "kept"},
	{cmd: "ask", old: "2 base 1 0", fixed: "2 base 1 0"},
	{cmd: "keep 2", old: "kept", fixed: "kept"},
	{cmd: "ask", old: "1 right 2 2", fixed: "1001 right and wrong 2 2"},
	{cmd: "both", old: "22 7 1", fixed: "202 67 1"},
}
