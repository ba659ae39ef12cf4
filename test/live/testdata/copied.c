/* Objects of libc that the program refers to as to its own, so that the loader
   moves them into it (R_X86_64_COPY). The fixed build moves other ones. */
#include "live.h"
#include <time.h>
#include <unistd.h>

static FN int parse(const char *arg)
{
	char *argv[] = {"parse", "-a", (char *)arg, NULL};
#ifdef OLD
	opterr = 0; /* the fixed build has no copy of it, and the others lie elsewhere */
#endif
	optarg = NULL;
	optind = 1;
	if (getopt(3, argv, "a:") != 'a')
		return -1;
	return IF_FIXED(optarg[4], 1);
}
static FN const char *zone(void)
{
	setenv("TZ", "AAA1BBB", 1);
	tzset();
	return IF_FIXED(tzname[1], tzname[0]);
}
static FN int same(FILE *f) { return f == stdout; }

void answer(const char *cmd)
{
	if (IS("parse"))
		printf("%d", parse("value") * 10 + optind);
	else if (IS("zone"))
		printf("%s", zone());
	else if (IS("same"))
		printf("%d", same(stdout));
}
