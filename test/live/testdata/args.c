/* Arguments and results of every kind, recursion. */
#include <stdarg.h>
#include "live.h"

struct small { int a, b; };
struct big { long v[9]; };

static FN int integer(int a, int b) { return a * IF_FIXED(100, 10) + b; }
static FN double floating(double a, float b) { return a * IF_FIXED(4.25, 2.5) + b; }
static FN long many(int a, long b, char c, short d, int e, int f, int g, long h, double i, int j)
{
	return a + b + c + d + e + f + g * IF_FIXED(10, 1) + h * IF_FIXED(100, 1) + (long)(i * 2) + j;
}
static FN struct small two(int x)
{
	struct small s = {x, x + IF_FIXED(7, 1)};
	return s;
}
static FN struct big nine(int x)
{
	struct big b;
	for (int i = 0; i < 9; i++)
		b.v[i] = x * i + IF_FIXED(1000, 0);
	return b;
}
static FN long sum(int n, ...)
{
	va_list ap;
	long s = IF_FIXED(5000, 0);
	va_start(ap, n);
	while (n--)
		s += n & 1 ? (long)va_arg(ap, double) : va_arg(ap, int);
	va_end(ap);
	return s;
}
static FN long twist(long n);
static FN long turn(long n) { return n < 2 ? IF_FIXED(3, 2) : turn(n - 1) + twist(n - 2); }
static FN long twist(long n) { return n < 2 ? 1 : IF_FIXED(2, 1) * turn(n - 1) + twist(n - 3); }

void answer(const char *cmd)
{
	if (IS("integer"))
		printf("%d", integer(4, 2));
	else if (IS("floating"))
		printf("%.3f", floating(1.5, 0.25f));
	else if (IS("many"))
		printf("%ld", many(1, 2, 3, 4, 5, 6, 7, 8, 9.5, 10));
	else if (IS("two")) {
		struct small s = two(3);
		printf("%d %d", s.a, s.b);
	} else if (IS("nine")) {
		struct big b = nine(2);
		printf("%ld %ld", b.v[0], b.v[8]);
	} else if (IS("sum"))
		printf("%ld", sum(12, 1.0, 2, 3.0, 4, 5.0, 6, 7.0, 8, 9.0, 10, 11.0, 12));
	else if (IS("turn"))
		printf("%ld", turn(10));
}
