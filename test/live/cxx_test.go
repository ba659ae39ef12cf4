package live

// cxxCases are the targets in C++.
var cxxCases = []testCase{
	{name: "exceptions", source: "throw.cc", changed: exceptionsChanged, asks: exceptionAsks},
	{name: "virtual", source: "virtual.cc", changed: virtualChanged, asks: virtualAsks},
	{name: "virtual-relr", source: "virtual.cc", forms: []form{linked}, flags: []string{"-Wl,-z,pack-relative-relocs"}, changed: virtualChanged, has: ".relr.dyn", asks: virtualAsks},
	{name: "exceptions-lto", source: "throw.cc", forms: []form{program}, flags: []string{"-flto"}, changed: exceptionsChanged, asks: exceptionAsks},
	{name: "templates", source: "templates.cc", forms: []form{program, loaded}, changed: "_ZNK4ListI3TagILi11EEE4sizeEv", asks: []ask{{cmd: "ask 2", old: "9765", fixed: "22833"}}},
	{
		name: "new-class", source: "newclass.cc", forms: shared, flags: []string{"-rdynamic"}, changed: "answer check inside make number",
		added: "_ZN12_GLOBAL__N_16HiddenD0Ev _ZN12_GLOBAL__N_16HiddenD1Ev _ZN6CircleD0Ev _ZN6CircleD1Ev " +
			"_ZN7RefusedD0Ev _ZN7RefusedD1Ev _ZNK12_GLOBAL__N_16Hidden4whatEv _ZNK6Circle4areaEv _ZNK6Circle4nameEv " +
			"_ZNK6Circle6numberEv _ZThn8_N6CircleD0Ev _ZThn8_N6CircleD1Ev _ZThn8_NK6Circle6numberEv",
		asks: newClassAsks, finder: true,
	},
}

var newClassAsks = []ask{
	{cmd: "check 1", old: "2", fixed: "2"},
	{cmd: "check 4", old: "St13runtime_error too large", fixed: "7Refused refused"},
	{cmd: "inside 4", old: "616", fixed: "1101"},
	{cmd: "inside 5", old: "616", fixed: "7Refused five"},
	{cmd: "inside 9", old: "616", fixed: "2104"},
	{cmd: "keep 4", old: "kept", fixed: "kept"},
	{cmd: "kept", old: "4 shape 6Square 1", fixed: "4 shape 6Square 1"},
	{cmd: "number", old: "4", fixed: "4"},
	{cmd: "keep 3", old: "kept", fixed: "kept"},
	{cmd: "kept", old: "1 shape 5Shape 0", fixed: "3 circle 6Circle 0"},
	{cmd: "number", old: "-1", fixed: "36"},
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
