/* Calls through linkage stubs of every kind. */
#include <ctype.h>
#include "live.h"
#define EXPORT __attribute__((visibility("default"), noipa))

EXPORT int changed(int x) { return x + IF_FIXED(500, 5); }
EXPORT int same(int x) { return x - 1; }
/* Of abs the address is taken, too, so that its stub needs no slot of its own. */
static FN int (*pointer(int k))(int) { return k ? abs : toupper; }
static FN int calls(int x) { return abs(x) + changed(x) * IF_FIXED(3, 2) + same(x); }
static FN int unchanged(int x) { return abs(x) + changed(x) + same(x) + toupper('a'); }
/* What the baseline only calls, and what it only takes the address of. */
static FN int taken(void) { return IF_FIXED(tolower('X'), 'y') + (pointer(1) == abs) + IF_FIXED(toupper('b'), 0); }

void answer(const char *cmd)
{
	if (IS("ask"))
		printf("%d %d %d %d", calls(-4), unchanged(-4), taken(), tolower('Z') + pointer(0)('c'));
}
