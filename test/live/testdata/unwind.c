/* Walks through new code: backtrace() and the cancellation of a thread. */
#include <execinfo.h>
#include <pthread.h>
#include "live.h"

static int cleaned;
static FN int walk(void)
{
	void *frames[64];
	return backtrace(frames, 64);
}
static FN int inner(int x)
{
	int n = walk();
	OPAQUE(x);
	return n + x * IF_FIXED(1000, 0);
}
static FN int outer(int x)
{
	int n = inner(x);
	OPAQUE(n);
	return n + IF_FIXED(2000, 0) * x;
}
static void cleanup(void *arg) { cleaned += *(int *)arg; }
static FN void hang(int *how)
{
	pthread_cleanup_push(cleanup, how);
	*how = IF_FIXED(100, 1);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
}
static void *thread(void *arg)
{
	hang((int *)arg);
	return NULL;
}

void answer(const char *cmd)
{
	if (IS("walk"))
		printf("%d", outer(1) - walk());
	else if (IS("cancel")) {
		static int how;
		pthread_t t;
		void *r = NULL;
		how = 0;
		pthread_create(&t, NULL, thread, &how);
		while (!__atomic_load_n(&how, __ATOMIC_SEQ_CST))
			usleep(1000);
		pthread_cancel(t);
		pthread_join(t, &r);
		printf("%d %d", r == PTHREAD_CANCELED, how);
	} else if (IS("cleaned")) {
		printf("%d", cleaned);
		cleaned = 0;
	}
}
