/* Checks itself: registers, vector state, errno and system calls survive
 * whatever a tracer does. Prints the first thing that is wrong and exits 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_long rounds;
static int lenient; /* a tracer that dies between a stop and its mending leaves an EINTR */

static void wrong(const char *what, long got)
{
	printf("wrong: %s: %ld (errno %d)\n", what, got, errno);
	fflush(stdout);
	_exit(1);
}

/* All general registers and vectors hold known values over a loop; a tracer
 * must leave them so at every instruction. */
static void *registers(void *arg)
{
	(void)arg;
	for (;;) {
		uint64_t bad = 0;
		errno = 4242;
		__asm__ volatile(
			"mov $0x1111111111111111, %%rax\n movq %%rax, %%xmm15\n movq %%rax, %%xmm0\n"
			"vpxor %%ymm7, %%ymm7, %%ymm7\n vpcmpeqd %%ymm7, %%ymm7, %%ymm7\n"
			"fld1\n"
			"mov $0x2222222222222222, %%rbx\n mov $0x3333333333333333, %%rdx\n"
			"mov $0x4444444444444444, %%rsi\n mov $0x5555555555555555, %%rdi\n"
			"mov $0x8888888888888888, %%r8\n mov $0x9999999999999999, %%r9\n"
			"mov %%r8, %%r10\n mov %%r9, %%r11\n mov %%r8, %%r12\n mov %%r9, %%r13\n"
			"mov %%rbx, %%r14\n mov %%rdx, %%r15\n"
			"mov %%rbx, -8(%%rsp)\n mov %%rdx, -120(%%rsp)\n" /* the red zone */
			"mov $20000, %%ecx\n"
			"1: cmp %%r8, %%r10\n jne 9f\n cmp %%r8, %%r12\n jne 9f\n cmp %%r9, %%r11\n jne 9f\n"
			"cmp %%r9, %%r13\n jne 9f\n cmp %%rbx, %%r14\n jne 9f\n cmp %%rdx, %%r15\n jne 9f\n"
			"cmp %%rbx, -8(%%rsp)\n jne 9f\n cmp %%rdx, -120(%%rsp)\n jne 9f\n"
			"movq %%xmm15, %%rdi\n cmp %%rax, %%rdi\n jne 9f\n"
			"vextracti128 $1, %%ymm7, %%xmm6\n movq %%xmm6, %%rdi\n cmp $-1, %%rdi\n jne 9f\n"
			"cmp $0x44444444, %%esi\n jne 9f\n"
			"dec %%ecx\n jne 1b\n"
			"xor %%ecx, %%ecx\n jmp 8f\n"
			"9: mov $1, %%ecx\n"
			"8: fstp %%st(0)\n vzeroupper\n mov %%rcx, %0\n"
			: "=m"(bad)
			:
			: "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
			  "xmm0", "xmm6", "xmm7", "xmm15", "memory", "cc");
		if (bad)
			wrong("registers", bad);
		if (errno != 4242)
			wrong("errno of a busy thread", errno);
		rounds++;
	}
}

static long expect(const char *what, long got, long want, int err)
{
	if (lenient && got == -1 && errno == EINTR)
		return got;
	if (got != want || (want == -1 && errno != err))
		wrong(what, got);
	rounds++;
	return got;
}

static struct timespec ms(long n) { return (struct timespec){0, n * 1000000}; }

static void *calls(void *arg)
{
	int kind = (int)(intptr_t)arg;
	int ep = epoll_create1(0), ev = eventfd(0, 0), sock[2];
	struct epoll_event e = {.events = EPOLLIN};
	epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		wrong("socketpair", -1);
	struct timeval tv = {0, 30000};
	setsockopt(sock[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	int sem = semget(IPC_PRIVATE, 1, 0600);
	aio_context_t aio = 0;
	if (syscall(SYS_io_setup, 4, &aio))
		aio = 0;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, 0);
	uint32_t word = 0;
	for (;;) {
		struct timespec t = ms(30);
		struct timespec before, after;
		char c;
		struct pollfd pf = {.fd = ev, .events = POLLIN};
		struct sembuf op = {0, -1, 0};
		struct io_event io;
		errno = 0;
		switch (kind) {
		case 0: expect("epoll_wait", epoll_wait(ep, &e, 1, 30), 0, 0); break;
		case 1: expect("epoll_pwait", epoll_pwait(ep, &e, 1, 30, &set), 0, 0); break;
		case 2: expect("epoll_pwait2", syscall(441, ep, &e, 1, &t, 0, 8), 0, 0); break;
		case 3: expect("semtimedop", semtimedop(sem, &op, 1, &t), -1, EAGAIN); break;
		case 4: expect("sigtimedwait", sigtimedwait(&set, 0, &t), -1, EAGAIN); break;
		case 5:
			if (aio)
				expect("io_getevents", syscall(SYS_io_getevents, aio, 1, 1, &io, &t), 0, 0);
			else
				usleep(1000);
			break;
		case 6: expect("recv", recv(sock[0], &c, 1, 0), -1, EAGAIN); break;
		case 7:
			clock_gettime(CLOCK_MONOTONIC, &before);
			expect("nanosleep", nanosleep(&t, 0), 0, 0);
			clock_gettime(CLOCK_MONOTONIC, &after);
			if (!lenient && (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec < 30000000)
				wrong("nanosleep is short", 0);
			break;
		case 8: expect("poll", poll(&pf, 1, 30), 0, 0); break;
		case 9: expect("futex", syscall(SYS_futex, &word, 0, 0, &t, 0, 0), -1, ETIMEDOUT); break;
		case 10: expect("ppoll", ppoll(&pf, 1, &t, &set), 0, 0); break;
		case 11: expect("select", select(0, 0, 0, 0, &(struct timeval){0, 30000}), 0, 0); break;
		default: {
			int fd[2];
			if (pipe(fd))
				wrong("pipe", -1);
			expect("write", write(fd[1], "x", 1), 1, 0);
			expect("read", read(fd[0], &c, 1), 1, 0);
			close(fd[0]);
			close(fd[1]);
		}
		}
	}
}

static void *idle(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

/* A thread that is just born stands where the C library has no unwind
 * information, so "ready" comes only when all are here. */
static atomic_int begun;
struct start {
	void *(*f)(void *);
	void *arg;
};
static void *begin(void *arg)
{
	struct start s = *(struct start *)arg;
	free(arg);
	begun++;
	return s.f(s.arg);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "calls";
	int n = argc > 2 ? atoi(argv[2]) : 13;
	pthread_t t;
	lenient = getenv("LENIENT") != 0;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	for (int i = 1; i < n; i++) {
		void *(*f)(void *) = !strcmp(mode, "busy") ? registers : !strcmp(mode, "idle") ? idle : calls;
		if (!strcmp(mode, "mixed"))
			f = i % 2 ? registers : calls;
		struct start *s = malloc(sizeof *s);
		*s = (struct start){f, (void *)(intptr_t)(i - 1)};
		if (pthread_create(&t, &attr, begin, s))
			wrong("pthread_create", i);
	}
	while (begun < n - 1)
		usleep(1000);
	printf("ready\n");
	fflush(stdout);
	if (!strcmp(mode, "busy") || !strcmp(mode, "mixed"))
		registers(0);
	for (;;) {
		char c;
		if (read(0, &c, 1) <= 0)
			break;
		printf("%ld\n", (long)rounds);
		fflush(stdout);
	}
	return 0;
}
