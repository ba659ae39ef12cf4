/* A switch with a jump table, which gets another case and other targets. */
#include "live.h"

static FN int a(int x) { return x + 1; }
static FN int b(int x) { return x * 2; }
static FN int c(int x) { return x - 3; }
static FN int choose(int k, int x)
{
	switch (k) {
	case 0: return a(x);
	case 1: return b(x) + a(x);
	case 2: return c(x) * 3;
	case 3: return IF_FIXED(b(x) * 100, a(x) * b(x));
	case 4: puts("four"); return b(x);
	case 5: return a(b(x));
	case 6: return c(a(x)) ^ 5;
	case 7: return b(c(x)) + 1;
	case 8: return (int)strlen("eight") + x;
#ifdef FIXED
	case 9: return a(b(c(x))) + 900;
	case 10: return 1010;
#endif
	}
	return -1;
}
/* The same code, other targets. */
static FN int order(int k, int x)
{
	switch (k) {
	case IF_FIXED(1, 0): return a(x);
	case IF_FIXED(0, 1): return b(x) + a(x);
	case 2: return c(x) * 3;
	case 3: return a(x) * 5;
	case 4: return a(b(x));
	case 5: return c(a(x)) ^ 5;
	case 6: return b(c(x)) + 1;
	}
	return -1;
}

void answer(const char *cmd)
{
	if (IS("choose"))
		printf("%d", choose((int)ARG, 10));
	else if (IS("order"))
		printf("%d", order((int)ARG, 10));
}
