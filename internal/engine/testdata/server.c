/* A program to patch: built with -DFIX=0 and -DFIX=1. Commands on stdin:
 * v  print the sum of the ten functions      p  park a thread in park()
 * r  release it, print what it returned      f  fork a child that goes on
 * b  print the sum as a process beside it finds it, in the same memory
 * c  print the pid of that
 * Extra threads call the functions all the time, or sleep. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUNC(n)                                                             \
	__attribute__((noinline, noclone)) int f##n(int x)                  \
	{                                                                   \
		__asm__ volatile("" : "+r"(x));                             \
		for (int i = 0; i < (x & 3); i++)                           \
			x ^= i * n;                                         \
		return FIX ? x + n * 100 + 1000 * FIX : x + n;                    \
	}
FUNC(0) FUNC(1) FUNC(2) FUNC(3) FUNC(4) FUNC(5) FUNC(6) FUNC(7) FUNC(8) FUNC(9)

static int gate[2];

__attribute__((noinline, noclone)) int park(int x)
{
	char c;
	if (read(gate[0], &c, 1) != 1)
		return -1;
	return FIX ? x + 2000 * FIX : x + 1;
}

static int all(int x)
{
	return f0(x) + f1(x) + f2(x) + f3(x) + f4(x) + f5(x) + f6(x) + f7(x) + f8(x) + f9(x);
}

static volatile int sink;
static void *busy(void *a)
{
	(void)a;
	for (;;) {
		sink = all(0);
		for (volatile int i = 0; i < 20000; i++)
			;
	}
}
static void *idle(void *a)
{
	(void)a;
	for (;;)
		pause();
}
static void *parked(void *a)
{
	(void)a;
	return (void *)(intptr_t)park(0);
}

static volatile int asked, told;
static int beside(void *a)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; usleep(100)) {
		told = all(0);
		asked = 0;
	}
	(void)a;
}

/* Every call that maps memory kills the process. */
static void strict(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p))
		exit(1);
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 1;
	pthread_t t, p;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	if (pipe(gate))
		return 1;
	for (int i = 1; i < n; i++)
		if (pthread_create(&t, &attr, argc > 2 && !strcmp(argv[2], "busy") ? busy : idle, 0))
			return 1;
	if (argc > 3 && !strcmp(argv[3], "seccomp"))
		strict();
	if (argc > 3 && !strcmp(argv[3], "mdwe") && prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) && errno != EINVAL)
		return 1;
	if (argc > 3 && !strcmp(argv[2], "chroot") && (chroot(argv[3]) || chdir("/")))
		return 1;
	static char stack[65536] __attribute__((aligned(16)));
	pid_t peer = 0;
	if (argc > 2 && !strcmp(argv[2], "beside"))
		peer = clone(beside, stack + sizeof stack, CLONE_VM | SIGCHLD, 0);
	printf("ready\n");
	fflush(stdout);
	for (char c; read(0, &c, 1) == 1;) {
		void *ret;
		pid_t pid;
		switch (c) {
		case 'v': printf("%d\n", all(0)); break;
		case 'p': pthread_create(&p, &attr, parked, 0); usleep(20000); printf("parked\n"); break;
		case 'r':
			if (write(gate[1], "x", 1) != 1)
				return 1;
			pthread_join(p, &ret);
			printf("%d\n", (int)(intptr_t)ret);
			break;
		case 'b':
			for (asked = 1; asked;)
				usleep(50);
			for (asked = 1; asked;) /* the one before may have been under way */
				usleep(50);
			printf("%d\n", told);
			break;
		case 'c': printf("%d\n", peer); break;
		case 'f':
			if ((pid = fork()) > 0) {
				waitpid(pid, 0, 0);
				return 0;
			}
			printf("%d\n", getpid());
			break;
		}
		fflush(stdout);
	}
	return 0;
}
