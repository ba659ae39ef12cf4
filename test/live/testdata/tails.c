/* Functions that end with a jump to another one. */
#include "live.h"

static int depth;
static FN int unchanged(int x) { return x + 100 + depth; }
static FN int last(int x) { return x * IF_FIXED(7, 2); }
/* They jump to changed, to unchanged code, to an import, through a pointer. */
static FN int to_last(int x) { depth++; return last(x + 1); }
static FN int to_unchanged(int x) { depth++; return unchanged(x + IF_FIXED(10, 1)); }
static FN int to_import(int x) { depth++; return abs(-x - IF_FIXED(40, 4)); }
static FN int to_pointer(int (*f)(int), int x) { depth++; return f(x + IF_FIXED(9, 3)); }
/* Each other, and not one frame is left. */
static FN int even(int n);
static FN int odd(int n) { return n == 0 ? IF_FIXED(50, 5) : even(n - 1); }
static FN int even(int n) { return n == 0 ? IF_FIXED(60, 6) : odd(n - 1); }

void answer(const char *cmd)
{
	if (IS("ask")) {
		depth = 0;
		printf("%d %d %d %d", to_last(1), to_unchanged(1), to_import(1), to_pointer(unchanged, 1));
	} else if (IS("even"))
		printf("%d", even((int)ARG));
}
