/* Stacks of a known shape: main, a, b, and a handler on an alternate stack
 * that waits; threads that come and go when told "storm". */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

KEEP void innermost(void)
{
	char c;
	printf("ready\n");
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		printf("%c\n", c), fflush(stdout);
	_exit(0);
}

KEEP void handler(int s)
{
	(void)s;
	innermost();
	__asm__ volatile("");
}

KEEP int b(int n)
{
	int big[1000];
	memset(big, n, sizeof big);
	__asm__ volatile("" : : "r"(big) : "memory");
	raise(SIGUSR1);
	return big[n];
}

KEEP int recurse(int n)
{
	if (n == 0)
		return b(3) + 1;
	int r = recurse(n - 1);
	__asm__ volatile("" : "+r"(r));
	return r + 1;
}

static void *brief(void *a) { return a; }
static void *storm(void *a)
{
	for (;;) {
		pthread_t t;
		if (pthread_create(&t, 0, brief, 0) == 0)
			pthread_join(t, 0);
	}
	return a;
}

int main(int argc, char **argv)
{
	(void)argv;
	pthread_t t;
	for (int i = 0; i < 4 && argc > 1; i++)
		pthread_create(&t, 0, storm, 0);
	stack_t ss = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	sigaltstack(&ss, 0);
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	sigaction(SIGUSR1, &sa, 0);
	return recurse(40);
}
