/* A function that was only called becomes a callback. */
#include "live.h"

static int calls;
static FN int compare(const void *a, const void *b)
{
	calls++;
	return *(const int *)b - *(const int *)a;
}
static FN int sort(void)
{
	int v[] = {3, 1, 2};
#ifdef FIXED
	qsort(v, 3, sizeof *v, compare);
#else
	if (compare(&v[0], &v[1]) > 0)
		v[0] = 9;
#endif
	return v[0] * 100 + v[1] * 10 + v[2];
}
void answer(const char *cmd)
{
	if (IS("ask")) {
		int r;
		calls = 0;
		r = sort();
		printf("%d %d", r, calls > 0);
	}
}
