/* A process beside the program, in the same memory; or a program whose main
 * thread has ended. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#define main program
#include "live.h"
#undef main

static char stack[65536] __attribute__((aligned(16)));
static int child;

static FN int value(int x) { return x + IF_FIXED(200, 10); }
static int beside(void *arg)
{
	(void)arg;
	for (;;) {
		int r = value(1);
		OPAQUE(r);
		usleep(100);
	}
}
static void *vforks(void *arg)
{
	(void)arg;
	if (vfork() == 0) {
		usleep(500000);
		_exit(0);
	}
	return NULL;
}

void answer(const char *cmd)
{
	pthread_t t;
	if (IS("clone")) {
		child = clone(beside, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
		printf("%d", child);
	} else if (IS("end")) {
		kill(child, SIGKILL);
		printf("%d", waitpid(child, NULL, 0) == child);
	} else if (IS("vfork")) {
		pthread_create(&t, NULL, vforks, NULL);
		usleep(50000);
		putchar('1');
	} else if (IS("value")) {
		printf("%d", value(0));
	}
}

static void *serve(void *arg)
{
	exit(program());
	return arg;
}
int main(int argc, char **argv)
{
	pthread_t t;
	(void)argv;
	if (argc == 1)
		return program();
	pthread_create(&t, NULL, serve, NULL);
	pthread_exit(NULL);
}
