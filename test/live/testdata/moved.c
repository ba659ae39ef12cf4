/* The functions of the fixed build lie in another order; one of them changed. */
#include "live.h"

static int state = 3;
static FN int f1(int);
static FN int f2(int);
static FN int f3(int);
static FN int f4(int);
#define F1 static FN int f1(int x) { return x + state; }
#define F2 static FN int f2(int x) { return f1(x) * 2 - state; }
#define F3 static FN int f3(int x) { state++; return f2(x) + IF_FIXED(100, 1); }
#define F4 static FN int f4(int x) { return f1(x) ^ f2(x + 1); }
#ifdef FIXED
F4 F3 F2 F1
#else
F1 F2 F3 F4
#endif
void answer(const char *cmd)
{
	if (IS("ask")) {
		state = 3;
		printf("%d %d %d %d", f1(1), f2(1), f3(1), f4(1));
	}
}
