/* A library of which a program has several copies: each counts for itself, and
 * writes past the buffers of the C library, of which there are as many. */
#include "live.h"

static int calls;

static FN int value(int x) { return x + IF_FIXED(200, 10); }
static FN const char *name(void) { return IF_FIXED(secure_getenv("LC_ALL"), getenv("FIRST")); }

void answer(const char *cmd)
{
	char b[64];
	if (IS("value") && write(1, b, snprintf(b, sizeof b, "%d/%d/%s", value(0), ++calls, name())) < 0)
		exit(1);
}
