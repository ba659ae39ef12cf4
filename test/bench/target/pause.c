/*
 * A program to be patched while it measures itself. Its second argument is the
 * number of threads, its first a file of at least one page that it shares with
 * whoever measures: the layout is struct page.
 *
 * One thread never rests: it reads the clock all the time. Of the other
 * threads a third wakes every 20 ms, a third waits on a condition and a third
 * reads from a pipe into which nobody writes. The longest time between two
 * readings of the clock, by any thread, is the longest time in which no thread
 * ran. All that run call the functions that the fixed build changes: ten, or as
 * many tens as TENS says. With a third argument every second thread sorts
 * numbers instead, without rest.
 *
 * With 0 threads it times calls instead: of a changed and of an unchanged
 * function.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 512 };

#ifdef FIXED
#define BUILD 2
#else
#define BUILD 1
#endif

/* Times are nanoseconds. The measurer sets the maxima to 0. */
static struct page {
	_Atomic int64_t ready;      /* threads that have started */
	_Atomic int64_t build;      /* which build's function answered last */
	_Atomic int64_t gap;        /* longest time in which no thread ran */
	_Atomic int64_t changed;    /* picoseconds for a call of a changed function */
	_Atomic int64_t unchanged;  /* and of an unchanged one */
	_Atomic int64_t rounds;     /* batches of calls timed */
	_Atomic int64_t own[MOST];  /* longest gap of each thread; -1: it never runs */
} *page;

static _Atomic int64_t last;
static int pipes[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

#define CHANGED(n) \
	static __attribute__((noipa)) int64_t changed_##n(int64_t x) { return x * 10 * n + BUILD; }
#define CALL_KEPT(n) x ^= kept_##n##_1(0) ^ kept_##n##_2(0) ^ kept_##n##_3(0) ^ kept_##n##_4(0);
#define TEN(do, t) do(t##1) do(t##2) do(t##3) do(t##4) do(t##5) do(t##6) do(t##7) do(t##8) do(t##9) do(t##10)
#define CALL(n) x ^= changed_##n(0);
#if TENS > 1
#define ALL(do) TEN(do, 1) TEN(do, 2) TEN(do, 3) TEN(do, 4) TEN(do, 5) TEN(do, 6) TEN(do, 7) TEN(do, 8) TEN(do, 9) TEN(do, )
#else
#define ALL(do) TEN(do, )
#endif
ALL(CHANGED)

/* Four functions stay as they are for each that changes: a build in which most
   of the code differs is refused. */
#define KEPT(n, k) \
	static __attribute__((noipa)) int64_t kept_##n##_##k(int64_t x) { return (x << k) - n; }
#define FOUR_KEPT(n) KEPT(n, 1) KEPT(n, 2) KEPT(n, 3) KEPT(n, 4)
ALL(FOUR_KEPT)

static __attribute__((noipa)) int64_t unchanged(int64_t x) { return x * 10 + 1; }

static void call_all(void)
{
	volatile int64_t x = 0;
	ALL(CALL)
	ALL(CALL_KEPT)
	page->build = changed_1(0);
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void longest(_Atomic int64_t *max, int64_t gap)
{
	int64_t old = *max;
	while (gap > old && !atomic_compare_exchange_weak(max, &old, gap))
		;
}

static void *spin(void *index)
{
	_Atomic int64_t *own = &page->own[(intptr_t)index];
	int64_t mine = now();
	for (unsigned n = 0;; n++) {
		int64_t t = now(), before = atomic_exchange(&last, t);
		longest(&page->gap, t - before);
		longest(own, t - mine);
		mine = t;
		if (n % 256 == 0)
			call_all();
	}
	return NULL;
}

/* tick counts how much later than it asked for it wakes. */
static void *tick(void *index)
{
	for (;;) {
		struct timespec wait = {.tv_nsec = 20 * 1000 * 1000};
		int64_t due = now() + wait.tv_nsec;
		while (clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, &wait) == EINTR)
			;
		int64_t t = now();
		longest(&page->gap, t - atomic_exchange(&last, t));
		longest(&page->own[(intptr_t)index], t - due);
		call_all();
	}
	return NULL;
}

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

static void *work(void *index)
{
	enum { NUMBERS = 2000 };
	int numbers[NUMBERS];
	unsigned seed = (intptr_t)index;
	page->own[(intptr_t)index] = -1;
	for (;;) {
		for (int i = 0; i < NUMBERS; i++)
			numbers[i] = (int)(seed = seed * 1664525 + 1013904223) >> 1;
		qsort(numbers, NUMBERS, sizeof *numbers, compare);
		call_all();
	}
	return NULL;
}

static void *wait_on_condition(void *index)
{
	page->own[(intptr_t)index] = -1;
	pthread_mutex_lock(&lock);
	for (;;)
		pthread_cond_wait(&never, &lock);
	return NULL;
}

static void *wait_on_pipe(void *index)
{
	char c;
	page->own[(intptr_t)index] = -1;
	while (read(pipes[0], &c, 1) != 0)
		;
	return NULL;
}

static int64_t time_calls(int64_t (*f)(int64_t))
{
	enum { CALLS = 2 * 1000 * 1000 };
	int64_t x = 1, start = now();
	for (int i = 0; i < CALLS; i++)
		x = f(x);
	return (now() - start) * 1000 / CALLS;
}

static void time_for_ever(void)
{
	page->ready = 1;
	for (;;) {
		int64_t c = time_calls(changed_1), u = time_calls(unchanged);
		if (page->changed == 0 || c < page->changed)
			page->changed = c;
		if (page->unchanged == 0 || u < page->unchanged)
			page->unchanged = u;
		call_all();
		page->rounds++;
	}
}

int main(int argc, char **argv)
{
	static void *(*const idle[])(void *) = {tick, wait_on_condition, wait_on_pipe};
	int fd = argc >= 3 ? open(argv[1], O_RDWR) : -1;
	if (fd < 0 || pipe(pipes) != 0)
		return 1;
	page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int threads = atoi(argv[2]);
	if (page == MAP_FAILED || threads > MOST)
		return 1;
	if (threads == 0)
		time_for_ever();
	last = now();
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 * 1024);
	for (intptr_t i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, &small, argc > 3 && i % 2 ? work : idle[i % 3], (void *)i) != 0)
			return 1;
		page->ready = i;
	}
	page->ready = threads;
	spin((void *)0);
}
