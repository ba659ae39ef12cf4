// cc: gcc -O2 -fPIC -shared
// MOVED: patchable limit
//
// count_up and count_down have one body and differ in what they count. In the
// other build they changed places around a function that stayed: each is the
// only one of its kind on its side of it, and yet not the same.
#include <stdio.h>
static long ups, downs;
#define COUNT(name, what) \
	__attribute__((noipa, no_reorder)) static long name(long n) \
	{ \
		for (long i = 0; i < n; i++) \
			what += i ^ n; \
		return what; \
	}
#define MIDDLE \
	__attribute__((noipa, no_reorder)) static long middle(long n) { return printf("in the middle %ld\n", n * 3) + n; }
#ifdef MOVED
COUNT(count_down, downs)
MIDDLE
COUNT(count_up, ups)
#else
COUNT(count_up, ups)
MIDDLE
COUNT(count_down, downs)
#endif
long up(long n) { return count_up(n) + 1; }
long down(long n) { return count_down(n) - 2; }
long between(long n) { return middle(n) * ups; }
#ifdef MOVED
int limit(int n) { return n > 63 ? -1 : n; }
#else
int limit(int n) { return n > 64 ? -1 : n; }
#endif
