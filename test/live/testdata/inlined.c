/* What is inlined is another matter in each build. */
#include "live.h"
#define INSIDE static inline __attribute__((always_inline))

static int calls;
#ifdef FIXED
#define FIRST INSIDE
#define SECOND static FN
#else
#define FIRST static FN
#define SECOND INSIDE
#endif
FIRST int first(int x)
{
	calls++;
	return x * 3 + 1;
}
SECOND int second(int x)
{
	calls += 2;
	return x * 5 + 2;
}
static FN int one(int x) { return first(x) + 10; }
static FN int two(int x) { return first(x) * 2 + IF_FIXED(1000, 20); }
static FN int three(int x) { return second(x) + 30; }
static FN int four(int x) { return second(x) * 4 + 40; }
static FN int unchanged(int x) { return one(x) + three(x) + calls; }

void answer(const char *cmd)
{
	if (IS("ask")) {
		calls = 0;
		printf("%d %d %d %d %d", one(1), two(1), three(1), four(1), unchanged(1));
	}
}
