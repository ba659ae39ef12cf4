/* Processes beside the program, in the same memory; or a program whose main
 * thread has ended. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#define main program
#include "live.h"
#undef main

enum { OFF, PARK, EXEC, LEAD };

static struct beside {
	volatile int pid, turns, result, order, parked;
} beside[8];
static int count;
static volatile int hold, spawning, spawned, failed, done;
static pthread_t spawner;
extern char **environ;

static FN int value(int x) { return x + IF_FIXED(200, 10); }
static FN int parked(int x)
{
	while (hold)
		usleep(1000);
	return x * IF_FIXED(30, 3);
}

/* A process beside calls the functions until it is told otherwise. */
static int run(void *arg)
{
	struct beside *b = arg;
	for (;; b->turns++) {
		b->result = value(0);
		switch (b->order) {
		case PARK:
			b->order = OFF;
			b->parked = 1;
			b->result = parked(b->result);
			b->parked = 0;
			break;
		case EXEC:
			execl("/bin/sleep", "sleep", "150", (char *)0);
			_exit(1);
		case LEAD:
			return program();
		}
		usleep(200);
	}
}
static void *vforks(void *arg)
{
	if (vfork() == 0) {
		usleep((long)arg * 1000);
		_exit(0);
	}
	return NULL;
}
/* Starts processes all the time, by turns as posix_spawn(3) and as vfork(2) do. */
static void *spawn(void *arg)
{
	static char *argv[] = {"true", NULL};
	int pid, status;
	while (spawning) {
		if (spawned % 2) {
			if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
				pid = -1;
		} else if ((pid = vfork()) == 0) {
			execve("/bin/true", argv, environ);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			failed++;
		spawned++;
	}
	return arg;
}

void answer(const char *cmd)
{
	pthread_t t;
	struct beside *b = &beside[ARG];
	if (IS("clone")) { /* with more flags */
		char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		b = &beside[count++];
		b->pid = clone(run, stack + 65536, CLONE_VM | SIGCHLD | (int)ARG, b);
		printf("%d", b->pid);
	} else if (IS("beside")) { /* what a process beside gets */
		for (int n = b->turns; b->turns < n + 2;)
			usleep(100);
		printf("%d", b->result);
	} else if (IS("park")) {
		hold = 1;
		for (b->order = PARK; !b->parked;)
			usleep(100);
		printf("%d", b->pid);
	} else if (IS("release")) {
		for (hold = 0; b->parked;)
			usleep(100);
		putchar('1');
	} else if (IS("exec")) { /* a process beside does */
		char path[64], name[16] = "";
		snprintf(path, sizeof path, "/proc/%d/comm", b->pid);
		for (b->order = EXEC; strncmp(name, "sleep", 5);) {
			int fd = open(path, O_RDONLY);
			if (read(fd, name, sizeof name) < 0)
				break;
			close(fd);
			usleep(100);
		}
		putchar('1');
	} else if (IS("leave")) { /* and leave the rest to a process beside */
		b->order = LEAD;
		_exit(0);
	} else if (IS("become")) { /* the same by execve */
		b->order = LEAD;
		execl("/bin/sleep", "sleep", "150", (char *)0);
	} else if (IS("end")) {
		kill(b->pid, SIGKILL);
		printf("%d", waitpid(b->pid, NULL, 0) == b->pid);
	} else if (IS("vfork")) { /* for some milliseconds */
		pthread_create(&t, NULL, vforks, (void *)ARG);
		usleep(50000);
		putchar('1');
	} else if (IS("spawn")) {
		spawning = 1;
		pthread_create(&spawner, NULL, spawn, NULL);
		putchar('1');
	} else if (IS("calm")) {
		spawning = 0;
		pthread_join(spawner, NULL);
		printf("%d %d", spawned > 100, failed);
	} else if (IS("value")) {
		printf("%d", value(0));
	} else if (IS("parked")) {
		printf("%d", parked(2));
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
