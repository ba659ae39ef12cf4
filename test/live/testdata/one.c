/* As parked.c, with one changed function. */
#include <pthread.h>
#include <sys/syscall.h>
#include "live.h"

static int gate[2], tid, result;
static pthread_t t;

static FN int hold(void)
{
	char c;
	if (read(gate[0], &c, 1) != 1)
		abort();
	return c - 'x';
}
static FN int parked(int x) { return hold() + x + IF_FIXED(200, 10); }
static void *park(void *arg)
{
	(void)arg;
	__atomic_store_n(&tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	result = parked(0);
	return NULL;
}

void answer(const char *cmd)
{
	if (!gate[1] && pipe(gate))
		abort();
	if (IS("park")) {
		tid = 0;
		pthread_create(&t, NULL, park, NULL);
		while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
			usleep(1000);
		usleep(50000);
		printf("%d", tid);
	} else if (IS("release")) {
		if (write(gate[1], "x", 1) != 1)
			abort();
		pthread_join(t, NULL);
		printf("%d", result);
	} else if (IS("value")) { /* through a pipe of its own, beside the parked thread */
		static int two[2];
		int saved[2] = {gate[0], gate[1]}, v;
		if (!two[1] && pipe(two))
			abort();
		gate[0] = two[0];
		if (write(two[1], "x", 1) != 1)
			abort();
		v = parked(0);
		gate[0] = saved[0];
		printf("%d", v);
	}
}
