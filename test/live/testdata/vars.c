/* New variables of the fixed build, beside those that live. */
#include "live.h"

static int old_count;
static int old_start = 500;

static FN int tally(int n)
{
	old_count++;
	old_start += n;
#ifdef FIXED
	static int seen;
	static int start = 9000;
	static char text[64] = "new";
	seen += n;
	start++;
	text[0]++;
	return old_start + seen * 100000 + start * 10 + text[0] - 'n';
#else
	return old_start;
#endif
}
static FN int unchanged(void) { return old_count * 2 + old_start; }

void answer(const char *cmd)
{
	if (IS("tally"))
		printf("%d", tally(1));
	else if (IS("unchanged"))
		printf("%d", unchanged());
}
