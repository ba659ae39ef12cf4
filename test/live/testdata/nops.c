/* The same code with other padding in its loops; one function changed. */
#include "live.h"
#ifdef FIXED
#define PAD __asm__ volatile(".nops 9")
#else
#define PAD __asm__ volatile("nop")
#endif

static FN int padded(int n)
{
	int s = 0;
	for (int i = 0; i < n; i++) {
		PAD;
		s += i ^ 3;
		OPAQUE(s);
	}
	return s;
}
static FN int changed(int n)
{
	int s = 0;
	for (int i = 0; i < n; i++) {
		PAD;
		s += padded(i) + IF_FIXED(100, 1);
		OPAQUE(s);
	}
	return s;
}
void answer(const char *cmd)
{
	if (IS("ask"))
		printf("%d %d", padded(5), changed(5));
}
