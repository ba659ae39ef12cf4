/* The fixed build uses both versions of a symbol: the old one needs a buffer. */
#include "live.h"
__asm__(".symver old_realpath, realpath@GLIBC_2.2.5");
char *old_realpath(const char *path, char *buffer);

static FN int resolve(const char *path)
{
#ifdef FIXED
	char *a = old_realpath(path, NULL), *b = realpath(path, NULL);
#else
	char *a = strdup(path), *b = NULL;
#endif
	int n = (a != NULL) + 2 * (b != NULL);
	free(a);
	free(b);
	return n;
}
void answer(const char *cmd)
{
	if (IS("ask"))
		printf("%d", resolve("/"));
}
