/* The fixed build uses a library that the process has not loaded. */
#include <math.h>
#include "live.h"

static FN int root(double x) { return (int)IF_FIXED(cbrt(x), x); }
void answer(const char *cmd)
{
	if (IS("root"))
		printf("%d", root(27));
}
