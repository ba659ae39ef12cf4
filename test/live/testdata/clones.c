/* Functions that the compiler splits and specialises: .part, .isra, .constprop. */
#include "live.h"
#define OUT __attribute__((noinline))
struct pair { int a, b, unused[20]; };

static int seen;
/* Only what the pointer leads to is used, and not all of it: .isra. */
static OUT int sum(struct pair *p, int x)
{
	seen += x;
	return p->a + p->b * IF_FIXED(30, 3) + seen;
}
/* Always called with the same number: .constprop. */
static OUT int scale(int x, int by)
{
	for (int i = 0; i < by; i++)
		x += x % 7 + IF_FIXED(100, 1);
	return x;
}
/* The quick end is inlined, what is left is .part. */
static int sometimes(int *p)
{
	if (*p < 10)
		return 0;
	printf("<%d>", *p);
	seen = 0;
	for (int i = 0; i < *p; i++)
		printf(IF_FIXED("!", "."));
	printf("%d %d ", *p, seen);
	printf("%d %d ", *p + 1, seen);
	printf("%d %d ", *p + 2, seen);
	putchar(' ');
	return 1;
}
FN int with_sum(int x)
{
	struct pair p = {x, 2};
	return sum(&p, x) + 1;
}
FN int other_sum(int x)
{
	struct pair p = {x, 2 * x};
	return sum(&p, 1) * 2;
}
FN int with_scale(int x) { return scale(x, 5) + 1; }
FN int other_scale(int x) { return scale(x + 1, 5) - 1; }
FN int with_part(int x) { return sometimes(&x) * 2 + x; }
FN int other_part(int x)
{
	x++;
	return sometimes(&x) * 3 + seen;
}

void answer(const char *cmd)
{
	int x = (int)ARG;
	if (IS("sum")) {
		seen = 0;
		printf("%d %d", with_sum(x), other_sum(x));
	} else if (IS("scale"))
		printf("%d %d", with_scale(x), other_scale(x));
	else if (IS("part")) {
		seen = 0;
		printf("%d", with_part(x));
		printf(" %d", other_part(x));
	}
}
