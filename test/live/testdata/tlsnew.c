/* A thread-local variable that is new: threads that exist have no room for it. */
#include "live.h"
static __thread int mine;
#ifdef FIXED
static __thread int more;
#endif
static FN int count(void) { return ++mine + IF_FIXED(++more, 0); }
void answer(const char *cmd)
{
	if (IS("ask"))
		printf("%d", count());
}
