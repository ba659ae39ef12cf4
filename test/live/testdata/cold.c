/* Functions with a cold part, in .text.unlikely. */
#include "live.h"

static long errors;
static __attribute__((cold, noinline)) void complain(int x) { errors += x; }
static FN int guarded(int x, int *out)
{
	if (__builtin_expect(x > 100, 0)) {
		complain(x);
		complain(IF_FIXED(5, 1));
		*out = IF_FIXED(-2, -1);
		return (int)errors;
	}
	*out = x + IF_FIXED(20, 2);
	return 0;
}
/* Only its cold part changes. */
static FN int rare(int x)
{
	if (__builtin_expect(x < 0, 0)) {
		complain(IF_FIXED(70, 7));
		complain(-x);
		return (int)errors;
	}
	return x * 2;
}
/* Two ways into its cold part: the second one moves when the first grows. */
static FN int shifted(int x, int y)
{
	if (__builtin_expect(x < 0, 0)) {
		complain(x);
#ifdef FIXED
		complain(1000);
		complain(2000);
#endif
		return (int)errors;
	}
	if (__builtin_expect(y < 0, 0)) {
		complain(y);
		complain(-1);
		return (int)errors * 2;
	}
	return x + y;
}

void answer(const char *cmd)
{
	int out = 0;
	if (IS("guarded")) {
		errors = 0;
		int r = guarded((int)ARG, &out);
		printf("%d %d", r, out);
	} else if (IS("rare")) {
		errors = 0;
		printf("%d", rare((int)ARG));
	} else if (IS("shifted")) {
		int x = (int)ARG;
		errors = 0;
		printf("%d %d %d", shifted(x, 1), shifted(1, x), shifted(2, 3));
	}
}
