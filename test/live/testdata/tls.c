/* Thread-local storage: every thread's own variable is the baseline's. */
#include <pthread.h>
#include "live.h"

static __thread int mine;
static __thread int started = 40;
__thread int shared_name = 5;

static FN int count(int by)
{
	mine += by * IF_FIXED(10, 1);
	started++;
	shared_name += IF_FIXED(2, 1);
	return mine;
}
static FN int unchanged(void) { return mine; }
static void *thread(void *arg)
{
	count(1);
	count(1);
	return (void *)(long)(unchanged() + 1000 * started + *(int *)arg);
}

void answer(const char *cmd)
{
	if (IS("count")) {
		int n = count((int)ARG);
		printf("%d %d", n == unchanged(), n);
	} else if (IS("started"))
		printf("%d", started);
	else if (IS("shared"))
		printf("%d", shared_name);
	else if (IS("thread")) {
		pthread_t t;
		void *r;
		int zero = 0;
		pthread_create(&t, NULL, thread, &zero);
		pthread_join(t, &r);
		printf("%ld", (long)r);
	}
}
