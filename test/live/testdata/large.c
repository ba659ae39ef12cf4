/* A large table that the changed function reads and hands out a part of. */
#include "live.h"
const struct { int first[4]; char text[4 << 20]; } large = {{1, 2, 3, 4}, "text"};

static FN const void *find(long i) { return &large.text[i + IF_FIXED(1, 0)]; }
static FN int read_at(long i) { return large.text[i] + IF_FIXED(1000, 0); }
void answer(const char *cmd)
{
	if (IS("find"))
		printf("%ld", (const char *)find(ARG) - large.text - ARG);
	else if (IS("read"))
		printf("%d", read_at(ARG));
}
