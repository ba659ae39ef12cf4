/* The fixed build of a plugin uses more of its host; see host.c. */
#include "live.h"
int host_limit(int x) __attribute__((weak));
extern int host_level;

static FN int limit(int x)
{
#ifdef FIXED
	return host_limit(x) + host_level;
#else
	return x;
#endif
}
void answer(const char *cmd)
{
	if (IS("limit"))
		printf("%d", limit((int)ARG));
}
