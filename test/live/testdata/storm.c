/* Threads come and go all the time, each calls a changed function once. */
#include <pthread.h>
#include "live.h"

static int stop, seen_old, seen_new, odd;
static long born;
static FN int work(int x) { return x + IF_FIXED(2, 1); }
static void *one(void *arg)
{
	int v = work(*(int *)arg);
	if (v == 1)
		__atomic_add_fetch(&seen_old, 1, __ATOMIC_SEQ_CST);
	else if (v == 2)
		__atomic_add_fetch(&seen_new, 1, __ATOMIC_SEQ_CST);
	else
		odd++;
	return NULL;
}
static void *breed(void *arg)
{
	static int zero;
	(void)arg;
	while (!stop) {
		pthread_t t[4];
		for (int i = 0; i < 4; i++)
			if (pthread_create(&t[i], NULL, one, &zero))
				abort();
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		__atomic_add_fetch(&born, 4, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

void answer(const char *cmd)
{
	if (IS("start")) {
		pthread_t t;
		for (int i = 0; i < 4; i++)
			pthread_create(&t, NULL, breed, NULL);
		printf("started");
	} else if (IS("seen")) { /* by threads born from now on, once those under way are through */
		long from = __atomic_load_n(&born, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&born, __ATOMIC_SEQ_CST) < from + 40)
			usleep(1000);
		seen_old = seen_new = 0;
		from = __atomic_load_n(&born, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&born, __ATOMIC_SEQ_CST) < from + 200)
			usleep(1000);
		printf("%d %d %d", seen_old > 100, seen_new > 100, odd);
	}
}
