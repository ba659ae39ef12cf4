package live

import (
	"hotpatch/internal/diff"
	"hotpatch/internal/engine"
)

// shapeCases are the targets in which compilers and linkers give the same
// source other shapes.
var shapeCases = []testCase{
	{name: "clones", source: "clones.c", changed: "scale.constprop.0 sometimes.part.0 sum.isra.0", asks: cloneAsks},
	{name: "clones-lto", source: "clones.c", forms: []form{program}, flags: []string{"-flto"}, changed: "scale.constprop.0 sometimes.part.0 sum", asks: cloneAsks},
	{name: "arguments-lto", source: "args.c", forms: []form{linked}, flags: []string{"-flto"}, changed: "floating integer many nine sum turn twist two", asks: []ask{
		{cmd: "integer", old: "42", fixed: "402"},
	}},
	{
		name: "inlined", source: "inlined.c", forms: []form{program, loaded}, changed: "four one three two", added: "second",
		asks: []ask{{cmd: "ask", old: "14 28 37 68 54", fixed: "14 1008 37 68 54"}},
	},
	{
		name: "moved", source: "moved.c", forms: []form{program, loaded}, flags: []string{"-fno-toplevel-reorder"}, changed: "f3",
		asks: []ask{{cmd: "ask", old: "5 6 7 3", fixed: "5 6 106 3"}},
	},
	{
		name: "tail-calls", source: "tails.c", changed: "even last odd to_import to_pointer to_unchanged",
		asks: []ask{
			{cmd: "ask", old: "4 105 5 105", fixed: "14 114 41 111"},
			{cmd: "even 7", old: "5", fixed: "50"},
			{cmd: "even 8", old: "6", fixed: "60"},
		},
	},
	{name: "pointer-tables", source: "relro.c", forms: shared, changed: "choose half times", has: ".data.rel.ro", asks: tableAsks},
	{name: "pointer-tables-placed", source: "relro.c", forms: []form{placed}, changed: "choose half times", asks: tableAsks},
	{name: "pointer-tables-relr", source: "relro.c", forms: shared, flags: []string{"-Wl,-z,pack-relative-relocs"}, changed: "choose half times", has: ".relr.dyn", asks: tableAsks},
	{name: "pointer-tables-lld", source: "relro.c", forms: []form{linked}, flags: []string{"-fuse-ld=lld"}, changed: "choose half times", asks: tableAsks},
	{name: "pointer-tables-clang", source: "relro.c", forms: []form{program}, flags: []string{"-DCLANG"}, changed: "choose half times", asks: tableAsks},
	{name: "pointer-table-changed", source: "relro.c", forms: []form{program}, flags: []string{"-DSWAP"}, denied: diff.ConstantData},
	{name: "plt-lazy", source: "plt.c", forms: []form{program, linked}, flags: []string{"-Wl,-z,lazy"}, changed: pltChanged, has: ".plt .plt.got", asks: pltAsks},
	{name: "plt-now", source: "plt.c", forms: []form{linked}, flags: []string{"-Wl,-z,now"}, changed: pltChanged, has: ".plt .plt.got", asks: pltAsks},
	{name: "plt-sec", source: "plt.c", forms: []form{program, linked}, flags: []string{"-fcf-protection=full", "-Wl,-z,ibtplt"}, changed: pltChanged, has: ".plt.sec .plt.got", asks: pltAsks},
	{name: "no-plt", source: "plt.c", forms: []form{linked}, flags: []string{"-fno-plt"}, changed: pltChanged, asks: pltAsks},
	{name: "imports-sec", source: "imports.c", forms: []form{program, linked}, flags: []string{"-fcf-protection=full", "-Wl,-z,ibtplt"}, changed: "added_import by_pointer fails parse unchanged", has: ".plt.sec", asks: importAsks},
	{
		name: "plugin", source: "plugin.c", forms: []form{loaded}, changed: "limit",
		asks: []ask{{cmd: "limit 9", old: "9", fixed: "79"}, {cmd: "limit 99", old: "99", fixed: "120"}},
	},
	{
		name: "import-not-loaded", source: "missing.c", flags: []string{"-lm"}, changed: "root", refused: engine.NoImport, names: "cbrt",
		asks: []ask{{cmd: "root", old: "27", fixed: "3"}},
	},
	{name: "symbol-versions", source: "versions.c", changed: "resolve", asks: []ask{{cmd: "ask", old: "1", fixed: "2"}}},
	{
		name: "computed-goto", source: "goto.c", changed: "other run",
		asks: []ask{
			{cmd: "run aa@", old: "3 3", fixed: "201 4"},
			{cmd: "run abac@", old: "-1 3", fixed: "290 4"},
			{cmd: "run c@", old: "1 3", fixed: "-5 4"},
		},
	},
	{name: "computed-goto-offsets", source: "goto.c", flags: []string{"-DOFFSETS"}, denied: diff.Labels, forms: []form{program}},
	{name: "padding", source: "nops.c", forms: []form{program, loaded}, changed: "changed", asks: []ask{{cmd: "ask", old: "13 25", fixed: "13 520"}}},
	{name: "tiny", source: "tiny.c", forms: []form{program, loaded}, changed: "nothing three", asks: []ask{{cmd: "ask", old: "5 1", fixed: "15 7"}}},
	{name: "tiny-no-padding", source: "tiny.c", forms: []form{program}, flags: []string{"-falign-functions=1"}, denied: diff.NoEntryRoom},
	{name: "new-callback", source: "callback.c", forms: []form{program, loaded}, changed: "sort", asks: []ask{{cmd: "ask", old: "312 1", fixed: "321 1"}}},
	// Nothing tells the addresses in it from numbers.
	{name: "fixed-address", source: "args.c", forms: []form{program}, flags: []string{"-fno-pie", "-no-pie"}, denied: diff.NotPositionIndependent},
	{name: "new-thread-local", source: "tlsnew.c", forms: []form{program}, denied: diff.TLSLayout},
}

var cloneAsks = []ask{
	{cmd: "sum 4", old: "16 58", fixed: "70 490"},
	{cmd: "scale 3", old: "16 25", fixed: "516 518"},
	{cmd: "part 5", old: "5 0", fixed: "5 0"},
	{cmd: "part 12", old: "<12>............12 0 13 0 14 0  14<13>.............13 0 14 0 15 0   3", fixed: "<12>!!!!!!!!!!!!12 0 13 0 14 0  14<13>!!!!!!!!!!!!!13 0 14 0 15 0   3"},
}

var tableAsks = []ask{
	{cmd: "run 0", old: "20 20", fixed: "20 20"},
	{cmd: "run 1", old: "29 20", fixed: "209 20"},
	{cmd: "run 3", old: "16 20", fixed: "17 20"},
	{cmd: "plus", old: "0", fixed: "1"},
	{cmd: "half", old: "1", fixed: "1"},
}

const pltChanged = "calls changed taken"

var pltAsks = []ask{{cmd: "ask", old: "1 65 122 189", fixed: "1487 560 187 189"}}
