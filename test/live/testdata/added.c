/* The fixed build has functions that the baseline has not. */
#include "live.h"

static int state = 1;
static FN int unchanged(int x) { return x + state; }
#ifdef FIXED
static FN int deeper(int x) { return x > 0 ? deeper(x - 1) + unchanged(x) : 0; }
static FN int clamp(int x)
{
	state++;
	if (x > 50)
		return 50 + deeper(3);
	return x;
}
static FN int compare(const void *a, const void *b) { return *(const int *)b - *(const int *)a; }
#else
static FN int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
#endif
static FN int limit(int x)
{
#ifdef FIXED
	return clamp(unchanged(x));
#else
	return unchanged(x);
#endif
}
static FN int sorted(void)
{
	int v[] = {3, 1, 2};
	qsort(v, 3, sizeof *v, compare);
	return v[0] * 100 + v[1] * 10 + v[2];
}

void answer(const char *cmd)
{
	if (IS("limit")) {
		state = 1;
		printf("%d", limit((int)ARG));
	} else if (IS("sorted"))
		printf("%d", sorted());
}
