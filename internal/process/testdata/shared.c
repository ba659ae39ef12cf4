/* Processes that share memory: shared N forks N times, and half of the children
 * start another process in their memory; their pids are printed. shared as UID
 * does so once, and that process becomes another user's. Then "end". */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int uid = -1;
static volatile int done;

static int beside(void *a)
{
	(void)a;
	if (uid >= 0 && (syscall(SYS_setresuid, uid, uid, uid) || prctl(PR_SET_DUMPABLE, 1)))
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	done = 1;
	for (;;)
		pause();
}

static int start(void)
{
	char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int pid = clone(beside, stack + 65536, CLONE_VM | SIGCHLD, NULL);
	while (!done)
		usleep(1000);
	return pid;
}

int main(int argc, char **argv)
{
	int up[2];
	setvbuf(stdout, NULL, _IOLBF, 4096);
	alarm(60);
	puts("ready");
	if (argc > 2) {
		uid = atoi(argv[2]);
		printf("%d\n", start());
	} else if (pipe(up) == 0) {
		for (int i = 0; i < atoi(argv[1]); i++) {
			int pair[2] = {0};
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				pair[0] = getpid();
				if (i % 2)
					pair[1] = start();
				if (write(up[1], pair, sizeof pair) != sizeof pair)
					_exit(1);
				for (;;)
					pause();
			}
			if (read(up[0], pair, sizeof pair) != sizeof pair)
				return 1;
			printf("%d %d\n", pair[0], pair[1]);
		}
	}
	puts("end");
	fflush(stdout);
	for (;;)
		pause();
}
