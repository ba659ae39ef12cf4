/* Threads that call a changed function, each after waiting in its own way. A
 * wait that does not end as it should is counted. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include "live.h"

enum { BUSY, READ, FUTEX, EPOLL, SLEEP, KINDS };
struct worker {
	int kind, fd[2], epoll, last;
	unsigned rounds;
};
static struct worker workers[512];
static int count, bad;
static unsigned generation;
static long calls;

static FN int step(int x)
{
	__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
	return x + IF_FIXED(20, 10);
}
static FN int next(int x) { return step(x) + IF_FIXED(200, 100); }

static void fail(int ok)
{
	if (!ok)
		__atomic_add_fetch(&bad, 1, __ATOMIC_SEQ_CST);
}
static FN void wait_for(struct worker *w)
{
	char c;
	struct epoll_event ev;
	struct timespec nap = {0, 20 * 1000 * 1000};
	unsigned g = w->rounds;
	switch (w->kind) {
	case BUSY:
		for (volatile int i = 0; i < 2000; i++)
			;
		break;
	case READ: fail(read(w->fd[0], &c, 1) == 1); break;
	case FUTEX:
		while (__atomic_load_n(&generation, __ATOMIC_SEQ_CST) <= g)
			fail(syscall(SYS_futex, &generation, FUTEX_WAIT_PRIVATE, g, NULL, NULL, 0) == 0 || errno == EAGAIN);
		break;
	case EPOLL:
		fail(epoll_wait(w->epoll, &ev, 1, 100000) == 1);
		fail(read(w->fd[0], &c, 1) == 1);
		break;
	case SLEEP: fail(nanosleep(&nap, NULL) == 0); break;
	}
}
static void *work(void *arg)
{
	struct worker *w = arg;
	for (;;) {
		wait_for(w);
		w->last = next(0);
		__atomic_add_fetch(&w->rounds, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}
static int kind_of(const char *s, int i)
{
	static const char *names[KINDS] = {"busy", "read", "futex", "epoll", "nanosleep"};
	for (int k = 0; k < KINDS; k++)
		if (!strcmp(s, names[k]))
			return k;
	return i % KINDS;
}
static void start(int n, const char *kind)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	for (count = 0; count < n; count++) {
		struct worker *w = &workers[count];
		struct epoll_event ev = {.events = EPOLLIN};
		pthread_t t;
		w->kind = kind_of(kind, count);
		fail(pipe(w->fd) == 0);
		w->epoll = epoll_create1(0);
		fail(epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->fd[0], &ev) == 0);
		if (pthread_create(&t, &attr, work, w))
			abort();
	}
}
/* Everyone goes round: twice where a round may have been under way already. The
 * goals are all set before anyone is woken: a worker that came late would have
 * gone round once by the time that its own goal is set. */
static void rounds(void)
{
	static unsigned to[512];
	int lo = 1 << 30, hi = 0, ms = 0;
	for (int i = 0; i < count; i++) {
		struct worker *w = &workers[i];
		to[i] = __atomic_load_n(&w->rounds, __ATOMIC_SEQ_CST) + (w->kind == BUSY || w->kind == SLEEP ? 2 : 1);
	}
	for (int i = 0; i < count; i++) {
		struct worker *w = &workers[i];
		if (w->kind == READ || w->kind == EPOLL)
			fail(write(w->fd[1], "x", 1) == 1);
		if (w->kind == FUTEX)
			__atomic_store_n(&generation, to[i], __ATOMIC_SEQ_CST);
	}
	syscall(SYS_futex, &generation, FUTEX_WAKE_PRIVATE, 1000, NULL, NULL, 0);
	for (int i = 0; i < count; i++) {
		struct worker *w = &workers[i];
		for (; __atomic_load_n(&w->rounds, __ATOMIC_SEQ_CST) < to[i]; ms += 2) {
			if (ms > 20000) {
				printf("worker %d is stuck", i);
				return;
			}
			usleep(2000);
		}
		lo = w->last < lo ? w->last : lo;
		hi = w->last > hi ? w->last : hi;
	}
	printf("%d %d", lo, hi);
}
/* The main thread is busy until it has seen a change, a moment longer, and at most 60 s: what it saw first and last,
 * and how often that changed. */
static void spin(void)
{
	int first = next(0), last = first, changes = 0;
	time_t from = time(NULL), until = from + 60;
	for (time_t now = from; now < until; now = time(NULL)) {
		int v = next(0);
		if (v != last && !changes++)
			until = now + 2;
		last = v;
	}
	printf("%d %d %d", first, last, changes);
}

void answer(const char *cmd)
{
	char kind[32];
	int n;
	if (sscanf(cmd, "start %d %31s", &n, kind) == 2) {
		start(n, kind);
		printf("%d", count);
	} else if (IS("value"))
		printf("%d", next(0));
	else if (IS("rounds"))
		rounds();
	else if (IS("spin"))
		spin();
	else if (IS("bad"))
		printf("%d", bad);
}
