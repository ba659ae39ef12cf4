/* Calls into unchanged functions and imports, old and new. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include "live.h"

static FN int unchanged(int x) { return x * 3 + (int)strlen("abc"); }
static FN long parse(const char *s) { return strtol(s, NULL, IF_FIXED(16, 10)) + unchanged(1); }
static FN long added_import(const char *s)
{
#ifdef FIXED
	return a64l(s) + 1;
#else
	return (long)strlen(s);
#endif
}
static FN int by_pointer(void)
{
	static int v[] = {5, 3, 9, 1};
	int (*f)(int) = IF_FIXED(abs, unchanged);
	OPAQUE(f);
	return f(-v[2]);
}
static FN int fails(void)
{
	errno = 0;
	if (close(IF_FIXED(-2, -1)) == 0)
		return 0;
	return errno + IF_FIXED(1000, 0);
}

void answer(const char *cmd)
{
	if (IS("parse"))
		printf("%ld", parse("20"));
	else if (IS("added"))
		printf("%ld", added_import("zz"));
	else if (IS("pointer"))
		printf("%d", by_pointer());
	else if (IS("errno"))
		printf("%d", fails());
}
