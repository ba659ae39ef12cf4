/* An interpreter that jumps through a table of labels. */
#include "live.h"
#ifdef OFFSETS /* from one label: numbers, not pointers */
#define LABEL(l) (int)((char *)&&l - (char *)&&add)
#define TABLE static const int
#define NEXT goto *((char *)&&add + labels[*p++ & 3])
#else
#define LABEL(l) &&l
#define TABLE static void *const
#define NEXT goto *labels[*p++ & 3]
#endif

static int steps;
static FN int help(int x) { return x - 3 + steps; }
static FN int run(const char *p, int x)
{
	TABLE labels[] = {LABEL(end), LABEL(add), LABEL(twice), LABEL(back)};
	NEXT;
add:
	steps++;
	x += IF_FIXED(100, 1);
	NEXT;
twice:
	x = help(x) * 2;
	NEXT;
back:
	x -= help(IF_FIXED(9, 3));
	NEXT;
end:
	return x;
}
static FN int other(int x) { return x * IF_FIXED(4, 3) + steps; }

void answer(const char *cmd)
{
	if (IS("run")) {
		steps = 0;
		printf("%d %d", run(strchr(cmd, ' ') + 1, 1), other(1));
	}
}
