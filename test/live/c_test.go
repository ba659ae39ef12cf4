package live

import (
	"fmt"
	"strconv"

	"hotpatch/internal/diff"
	"hotpatch/internal/engine"
)

// cCases are the targets in C.
var cCases = []testCase{
	{
		name: "arguments", source: "args.c",
		changed: "floating integer many nine sum turn twist two",
		asks: []ask{
			{cmd: "integer", old: "42", fixed: "402"},
			{cmd: "floating", old: "4.000", fixed: "6.625"},
			{cmd: "many", old: "65", fixed: "920"},
			{cmd: "two", old: "3 4", fixed: "3 10"},
			{cmd: "nine", old: "0 16", fixed: "1000 1016"},
			{cmd: "sum", old: "78", fixed: "5078"},
			{cmd: "turn", old: turn(10, 2, 1), fixed: turn(10, 3, 2)},
		},
	},
	{name: "endbr64", source: "args.c", flags: []string{"-fcf-protection=full"}, changed: "floating integer many nine sum turn twist two", asks: []ask{
		{cmd: "integer", old: "42", fixed: "402"},
		{cmd: "turn", old: turn(10, 2, 1), fixed: turn(10, 3, 2)},
	}},
	{name: "no-endbr64", source: "args.c", flags: []string{"-fcf-protection=none"}, changed: "floating integer many nine sum turn twist two", asks: []ask{
		{cmd: "integer", old: "42", fixed: "402"},
		{cmd: "turn", old: turn(10, 2, 1), fixed: turn(10, 3, 2)},
	}},
	{
		name: "data", source: "data.c", changed: "note",
		asks: []ask{{cmd: "note 5", live: func() func(bool) string {
			total, calls, cells := 1000, 0, 0
			return func(fixed bool) string {
				calls++
				if fixed {
					total, cells = total+10, cells+10
				} else {
					total, cells = total+5, cells+1
				}
				return fmt.Sprintf("%d n%d %d 5", total, calls, cells)
			}
		}}},
	},
	{
		name: "strings", source: "strings.c", changed: "colour factor format greeting same weight",
		asks: []ask{
			{cmd: "greeting", old: "hello, world", fixed: "greetings to the world"},
			{cmd: "same 9", old: "a common text 1", fixed: "a common text 1"},
			{cmd: "weight 7", old: "6", fixed: "66"},
			{cmd: "weight 5", old: "9", fixed: "9"},
			{cmd: "colour 2", old: "blue", fixed: "turquoise"},
			{cmd: "colour 3", old: "black", fixed: "black"},
			{cmd: "colour 9", old: "none", fixed: "none"},
			{cmd: "factor", old: "6.0000", fixed: "1.0000"},
			{cmd: "format", old: "[42]", fixed: "<00042>"},
		},
	},
	{name: "jump-tables", source: "tables.c", flags: []string{"-fno-optimize-sibling-calls"}, changed: "choose order", asks: switchAsks},
	{name: "short-branches", source: "tables.c", changed: "choose order", asks: switchAsks},
	{name: "tls", source: "tls.c", changed: "count", asks: tlsAsks},
	{name: "tls-initial-exec", source: "tls.c", flags: []string{"-ftls-model=initial-exec"}, changed: "count", asks: tlsAsks},
	{name: "tls-local-exec", source: "tls.c", forms: []form{program, static}, flags: []string{"-ftls-model=local-exec"}, changed: "count", asks: tlsAsks},
	{name: "tls-general-dynamic", source: "tls.c", forms: []form{linked, loaded}, flags: []string{"-ftls-model=global-dynamic"}, changed: "count", asks: tlsAsks},
	{name: "tls-descriptors", source: "tls.c", forms: []form{linked, loaded}, flags: []string{"-mtls-dialect=gnu2"}, changed: "count", asks: tlsAsks},
	{name: "imports", source: "imports.c", forms: shared, changed: "added_import by_pointer fails parse", asks: importAsks},
	{name: "imports-now", source: "imports.c", forms: shared, flags: []string{"-Wl,-z,now"}, changed: "added_import by_pointer fails parse", asks: importAsks},
	// The address of a function that the baseline does not import is another one
	// in a program at a fixed address than in its libraries.
	{name: "imported-address-placed", source: "imports.c", forms: []form{placed}, denied: diff.UnresolvedImport},
	{name: "imports-no-plt", source: "imports.c", flags: []string{"-fno-plt"}, changed: "added_import by_pointer fails parse", asks: importAsks},
	{
		name: "imported-objects", source: "objects.c", forms: []form{linked, loaded}, changed: "first name unbuffered",
		asks: []ask{
			{cmd: "first", old: "not asked", fixed: "FIRST=1"},
			{cmd: "stderr", old: "1 0", fixed: "0 0"},
		},
	},
	{
		name: "copied-objects", source: "copied.c", forms: []form{program}, changed: "parse zone",
		asks: []ask{
			{cmd: "parse", old: "13", fixed: "1013"},
			{cmd: "zone", old: "AAA", fixed: "BBB"},
			{cmd: "same", old: "1", fixed: "1"},
		},
	},
	// The loader has not moved these into the program.
	{name: "new-copied-objects", source: "objects.c", forms: []form{program}, denied: diff.UnresolvedImport},
	{
		name: "imported-objects", source: "objects.c", forms: []form{program}, flags: []string{"-fPIC"}, changed: "first name unbuffered",
		asks: []ask{{cmd: "first", old: "not asked", fixed: "FIRST=1"}, {cmd: "name", old: "1", fixed: "0"}},
	},
	{
		name: "ifunc", source: "ifunc.c", changed: "added known",
		asks: []ask{{cmd: "k", old: "301", fixed: "1301"}, {cmd: "a", old: "65", fixed: "106"}},
	},
	{
		name: "ifunc-unbound", source: "ifunc_unbound.c", changed: "added", refused: engine.UnboundIfunc, names: "wcsnlen",
		asks: []ask{{cmd: "a", old: "65", fixed: "106"}},
	},
	{
		name: "new-variables", source: "vars.c", changed: "tally",
		asks: []ask{{cmd: "tally", live: func() func(bool) string {
			start, seen, begin, text := 500, 0, 9000, 0
			return func(fixed bool) string {
				start++
				if !fixed { // new variables are new each time the patch comes
					seen, begin, text = 0, 9000, 0
					return strconv.Itoa(start)
				}
				seen, begin, text = seen+1, begin+1, text+1
				return strconv.Itoa(start + seen*100000 + begin*10 + text)
			}
		}}},
	},
	{
		name: "pointers", source: "pointers.c", changed: "changed fill make",
		asks: []ask{
			{cmd: "make 0", old: "0", fixed: "0"},
			{cmd: "make 1", old: "1", fixed: "0"},
			{cmd: "make 5", old: "1", fixed: "1"},
			{cmd: "store 0", old: "7", fixed: "7"},
			{cmd: "drop", old: "0", fixed: "0"},
			{cmd: "store 1", old: "10", fixed: "7"},
			{cmd: "check", old: "10", fixed: "7"},
			{cmd: "call", old: "20", fixed: "11"},
			{cmd: "drop", old: "1", fixed: "0"},
			{cmd: "store 4", old: "6", fixed: "10"},
			{cmd: "call", old: "11", fixed: "30"},
			{cmd: "drop", old: "1", fixed: "1"},
		},
	},
	{
		name: "cold", source: "cold.c", changed: "guarded rare shifted",
		asks: []ask{
			{cmd: "guarded 5", old: "0 7", fixed: "0 25"},
			{cmd: "guarded 200", old: "201 -1", fixed: "205 -2"},
			{cmd: "rare 4", old: "8", fixed: "8"},
			{cmd: "rare -4", old: "11", fixed: "74"},
			{cmd: "shifted -5", old: "-11 -12 5", fixed: "2989 -12 5"},
		},
	},
	{
		name: "added", source: "added.c", flags: []string{"-fno-optimize-sibling-calls"}, changed: "compare limit", added: "clamp deeper",
		asks: []ask{
			{cmd: "limit 5", old: "6", fixed: "6"},
			{cmd: "limit 99", old: "100", fixed: "62"},
			{cmd: "sorted", old: "123", fixed: "321"},
		},
	},
	{name: "names", source: "names.c", changed: "h3 internal published weakly", asks: nameAsks},
	{name: "symbolic", source: "names.c", forms: []form{linked, loaded}, flags: []string{"-Wl,-Bsymbolic"}, changed: "h3 internal published weakly", asks: nameAsks},
	{name: "exporting-program", source: "names.c", forms: []form{program}, flags: []string{"-rdynamic"}, changed: "h3 internal published weakly", asks: nameAsks},
	{name: "page-boundary", source: "page.c", changed: "across", asks: []ask{{cmd: "across", old: "16 4093", fixed: "151 4093"}}},
	{
		name: "unwind", source: "unwind.c", flags: []string{"-fexceptions"}, changed: "hang inner outer",
		asks: []ask{
			{cmd: "walk", old: "2", fixed: "3002"},
			{cmd: "cancel", old: "1 1", fixed: "1 100"},
			{cmd: "cleaned", old: "1", fixed: "100"},
		},
	},
	{name: "static-arguments", source: "args.c", forms: []form{static}, changed: "floating integer many nine sum turn twist two", asks: []ask{
		{cmd: "floating", old: "4.000", fixed: "6.625"},
		{cmd: "sum", old: "78", fixed: "5078"},
	}},
	{
		name: "static-cold", source: "cold.c", forms: []form{static}, changed: "guarded rare shifted",
		asks: []ask{{cmd: "guarded 200", old: "201 -1", fixed: "205 -2"}, {cmd: "rare -4", old: "11", fixed: "74"}},
	},
}

var switchAsks = []ask{
	{cmd: "choose 1", old: "31", fixed: "31"},
	{cmd: "choose 3", old: "220", fixed: "2000"},
	{cmd: "choose 7", old: "15", fixed: "15"},
	{cmd: "choose 9", old: "-1", fixed: "915"},
	{cmd: "choose 10", old: "-1", fixed: "1010"},
	{cmd: "choose 11", old: "-1", fixed: "-1"},
	{cmd: "order 0", old: "11", fixed: "31"},
	{cmd: "order 1", old: "31", fixed: "11"},
	{cmd: "order 3", old: "55", fixed: "55"},
}

var tlsAsks = []ask{
	{cmd: "count 2", live: counter(0, 2, 20, func(n int) string { return "1 " + plain(n) })},
	{cmd: "started", live: counter(40, 1, 1, plain)},
	{cmd: "shared", live: counter(5, 1, 2, plain)},
	{cmd: "thread", old: "42002", fixed: "42020"},
}

var importAsks = []ask{
	{cmd: "parse", old: "26", fixed: "38"},
	{cmd: "added", old: "2", fixed: strconv.Itoa(63 + 63*64 + 1)},
	{cmd: "pointer", old: "-24", fixed: "9"},
	{cmd: "errno", old: "9", fixed: "1009"},
}

var nameAsks = []ask{{cmd: "names", old: "2 3 4 12 1 7 20", fixed: "1001 1002 1003 120 -395 1006 317"}}

// turn is what the target's mutual recursion gives.
func turn(n, base, factor int) string {
	var a, b func(int) int
	a = func(n int) int {
		if n < 2 {
			return base
		}
		return a(n-1) + b(n-2)
	}
	b = func(n int) int {
		if n < 2 {
			return 1
		}
		return factor*a(n-1) + b(n-3)
	}
	return strconv.Itoa(a(n))
}
