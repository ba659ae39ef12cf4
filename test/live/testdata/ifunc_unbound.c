/* The fixed build calls an indirect function that nobody has bound. */
#include <wchar.h>
#include "live.h"

static FN size_t added(const wchar_t *s)
{
	OPAQUE(s);
#ifdef FIXED
	return wcsnlen(s, 100) + 100;
#else
	return (size_t)s[0];
#endif
}

void answer(const char *cmd)
{
	if (*cmd == 'a')
		printf("%zu", added(L"A line"));
}
