/* One thread in every system call that a stop could break off. None may come
 * back before it is woken, and then with what it waited for. Meanwhile signals
 * come to those whose calls go on after a handler (signal(7)); no other call
 * survives one by itself. */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include "live.h"

static FN int work(int x) { return x + IF_FIXED(2, 1); }

#define EACH(X) X(READ) X(EPOLL) X(EPOLL2) X(POLL) X(SELECT) X(RECV) X(READTIMED) X(RECVMSG) X(SPLICE) X(SEND) X(SENDMMSG) X(WRITETIMED) X(ACCEPT) X(SEMOP) X(MSGRCV) X(SIGTIMED) X(FUTEX) X(SEMWAIT) X(NANOSLEEP) X(CLOCK) X(CONDTIMED) X(WAITPID) X(AIO)
#define ENUM(n) n,
#define NAME(n) #n,
enum { EACH(ENUM) KINDS };
static const char *names[] = {EACH(NAME)};

static int pipes[KINDS][2], returned[KINDS], errors[KINDS], sem, msg, word, child;
static pthread_t threads[KINDS];
static sem_t posix;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int rung, listener;
static aio_context_t aio;

static char full[1 << 16];

static int blocked(int k)
{
	struct pollfd p = {.fd = pipes[k][0], .events = POLLIN};
	struct epoll_event ev = {.events = EPOLLIN};
	struct timespec minute = {60, 0}, nap = {3, 0}, at;
	struct sembuf down = {0, -1, 0};
	struct { long type; char text[8]; } m;
	struct io_event done;
	fd_set set;
	sigset_t usr2;
	char c;
	int fd = pipes[k][0], n, way[2];
	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_sec += 60;
	switch (k) {
	case READ: return read(fd, &c, 1) == 1;
	case EPOLL:
	case EPOLL2:
		n = epoll_create1(0);
		epoll_ctl(n, EPOLL_CTL_ADD, fd, &ev);
		if (k == EPOLL)
			return epoll_wait(n, &ev, 1, 60000) == 1;
		return syscall(SYS_epoll_pwait2, n, &ev, 1, &minute, NULL, 8) == 1;
	case POLL: return poll(&p, 1, 60000) == 1;
	case SELECT:
		FD_ZERO(&set);
		FD_SET(fd, &set);
		return select(fd + 1, &set, NULL, NULL, &(struct timeval){60, 0}) == 1;
	case RECV: return recv(fd, &c, 1, 0) == 1;
	case READTIMED: return read(fd, &c, 1) == 1;
	case RECVMSG: return recvmsg(fd, &(struct msghdr){.msg_iov = &(struct iovec){&c, 1}, .msg_iovlen = 1}, 0) == 1;
	case SEND: return send(fd, full, sizeof full, 0) > 0;
	case SENDMMSG: return sendmmsg(fd, &(struct mmsghdr){.msg_hdr = {.msg_iov = &(struct iovec){full, sizeof full}, .msg_iovlen = 1}}, 1, 0) == 1;
	case SPLICE: return pipe(way) == 0 && splice(fd, NULL, way[1], NULL, 1, 0) == 1;
	case WRITETIMED: return write(fd, full, sizeof full) > 0;
	case ACCEPT: return accept(listener, NULL, NULL) >= 0;
	case SEMOP: return semop(sem, &down, 1) == 0;
	case MSGRCV: return msgrcv(msg, &m, sizeof m.text, 0, 0) > 0;
	case SIGTIMED:
		sigemptyset(&usr2);
		sigaddset(&usr2, SIGUSR2);
		return sigtimedwait(&usr2, NULL, &minute) == SIGUSR2;
	case FUTEX: return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &minute, NULL, 0) == 0;
	case SEMWAIT: return sem_wait(&posix) == 0;
	case NANOSLEEP: return nanosleep(&nap, NULL) == 0;
	case CLOCK: return clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL) == 0;
	case CONDTIMED:
		pthread_mutex_lock(&mutex);
		n = 0;
		while (!rung && n == 0)
			n = pthread_cond_timedwait(&cond, &mutex, &at);
		pthread_mutex_unlock(&mutex);
		return n == 0;
	case WAITPID: return waitpid(child, NULL, 0) == child;
	case AIO: return syscall(SYS_io_getevents, aio, 1, 1, &done, &minute) == 1;
	}
	return 0;
}
/* Rings one thread after the other, each as soon as the last signal was handled. */
static const int restartable[] = {READ, SEMWAIT, CONDTIMED, WAITPID};
static int handled, quiet;
static pthread_t ringer;
static void handler(int sig)
{
	for (volatile int i = 0; i < 20000; i++) /* some of the stops find it here */
		;
	__atomic_fetch_add(&handled, 1, __ATOMIC_SEQ_CST);
}
static void *ring(void *arg)
{
	long n = 0;
	while (!__atomic_load_n(&quiet, __ATOMIC_SEQ_CST)) {
		pthread_kill(threads[restartable[n % 4]], SIGUSR1);
		for (n++; __atomic_load_n(&handled, __ATOMIC_SEQ_CST) < n;)
			usleep(100);
		usleep(500);
	}
	return (void *)n;
}
static void *thread(void *arg)
{
	int k = (int)(long)arg;
	stack_t own = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	sigaltstack(&own, NULL);
	errno = 0;
	if (!blocked(k))
		errors[k] = errno ? errno : -1;
	__atomic_store_n(&returned[k], 1, __ATOMIC_SEQ_CST);
	return NULL;
}
static void start(void)
{
	struct timeval minute = {60, 0};
	struct sockaddr any = {.sa_family = AF_UNIX};
	sigset_t usr2;
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &usr2, NULL);
	sem_init(&posix, 0, 0);
	sem = semget(IPC_PRIVATE, 1, 0600);
	msg = msgget(IPC_PRIVATE, 0600);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	bind(listener, &any, sizeof any.sa_family);
	listen(listener, 1);
	setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
	syscall(SYS_io_setup, 4, &aio);
	if ((child = fork()) == 0) {
		char c;
		alarm(100);
		close(pipes[WAITPID][1]); /* ends with its parent */
		_exit(read(pipes[WAITPID][0], &c, 1) < 0);
	}
	for (long k = 0; k < KINDS; k++) {
		if (k >= RECV && k <= WRITETIMED) {
			socketpair(AF_UNIX, SOCK_STREAM, 0, pipes[k]);
			setsockopt(pipes[k][0], SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
			setsockopt(pipes[k][0], SOL_SOCKET, SO_SNDTIMEO, &minute, sizeof minute);
		}
		if (k >= SEND && k <= WRITETIMED)
			while (send(pipes[k][0], full, sizeof full, MSG_DONTWAIT) > 0)
				;
		pthread_create(&threads[k], NULL, thread, (void *)k);
	}
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK}, NULL);
	pthread_create(&ringer, NULL, ring, NULL);
	usleep(100000);
}
static void early(void)
{
	int n = 0;
	for (int k = 0; k < KINDS; k++)
		if (returned[k] && k != NANOSLEEP && k != CLOCK)
			n += printf("%s:%d ", names[k], errors[k]);
	if (!n)
		printf("none");
}
static void wake(void)
{
	struct sembuf up = {0, 1, 0};
	struct { long type; char text[8]; } m = {1, "x"};
	struct sockaddr_un a;
	socklen_t len = sizeof a;
	static char byte[1] = "x";
	struct iocb cb = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (unsigned long)byte, .aio_nbytes = 1, .aio_offset = 0}, *cbs = &cb;
	FILE *tmp = tmpfile();
	int n = 0;
	cb.aio_fildes = (unsigned)fileno(tmp);
	for (int k = 0; k < KINDS; k++)
		if (k >= SEND && k <= WRITETIMED)
			for (int n = 0; !returned[k] && n < 100; n++)
				while (recv(pipes[k][1], full, sizeof full, MSG_DONTWAIT) > 0)
					usleep(100);
		else if (write(pipes[k][1], "x", 1) != 1)
			abort();
	semop(sem, &up, 1);
	msgsnd(msg, &m, 8, 0);
	pthread_kill(threads[SIGTIMED], SIGUSR2);
	word = 1;
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	sem_post(&posix);
	pthread_mutex_lock(&mutex);
	rung = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
	getsockname(listener, (struct sockaddr *)&a, &len);
	if (connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, len))
		perror("connect");
	syscall(SYS_io_submit, aio, 1, &cbs);
	for (int ms = 0, k = 0; k < KINDS; k++) {
		for (; !__atomic_load_n(&returned[k], __ATOMIC_SEQ_CST) && ms < 15000; ms++)
			usleep(1000);
		if (!returned[k] || errors[k])
			n += printf("%s:%d ", names[k], returned[k] ? errors[k] : 99999);
	}
	semctl(sem, 0, IPC_RMID);
	msgctl(msg, IPC_RMID, NULL);
	if (!n)
		printf("all");
}

void answer(const char *cmd)
{
	if (IS("start")) {
		for (int k = 0; k < KINDS; k++)
			if (pipe(pipes[k]))
				abort();
		start();
		printf("%d", KINDS);
	} else if (IS("early"))
		early();
	else if (IS("quiet")) {
		void *n;
		quiet = 1;
		pthread_join(ringer, &n);
		printf("%ld %d", (long)n, handled);
	} else if (IS("wake"))
		wake();
	else if (IS("value"))
		printf("%d", work(0));
}
