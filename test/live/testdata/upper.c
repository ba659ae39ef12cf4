/* The library above: its fixed build imports what the other one is given. */
#include "live.h"
int lower(int x);
int lower_checked(int x);
static FN int ask_lower(int x) { return IF_FIXED(lower_checked(x), lower(x)); }
static FN int unchanged(int x) { return lower(x); }

void answer(const char *cmd)
{
	if (IS("ask"))
		printf("%d %d", ask_lower(1), unchanged(1));
}
