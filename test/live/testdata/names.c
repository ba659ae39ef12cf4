/* Exported, hidden and aliased functions of one module. */
#include "live.h"
#define EXPORT __attribute__((visibility("default"), noipa))
#define HIDDEN __attribute__((visibility("hidden"), noipa))

EXPORT int published(int x) { return x + IF_FIXED(1000, 1); }
HIDDEN int internal(int x) { return x * IF_FIXED(30, 3); }
EXPORT int second_name(int x) __attribute__((alias("published")));
HIDDEN int third_name(int x) __attribute__((alias("published")));
EXPORT __attribute__((weak)) int weakly(int x) { return x - IF_FIXED(400, 4); }
static int (*pointer)(int) = published;
HIDDEN int h1(int x) { return x + 1; }
HIDDEN int h2(int x) { return x + 2; }
HIDDEN int h3(int x) { return h1(x) + h2(x) + IF_FIXED(300, 3); }

void answer(const char *cmd)
{
	if (IS("names"))
		printf("%d %d %d %d %d %d %d", published(1), second_name(2), third_name(3), internal(4), weakly(5), pointer(6), h3(7));
}
