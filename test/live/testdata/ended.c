/* Threads in calls that a signal is to end, without a race: it is blocked but
 * while they wait. Each sets a timer, waits, and goes on when its handler ran. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include "live.h"

#define EACH(X) X(EPOLL_PWAIT) X(PPOLL) X(PSELECT) X(SIGSUSPEND)
#define ENUM(n) n,
#define NAME(n) #n,
enum { EACH(ENUM) KINDS };
static const char *names[] = {EACH(NAME)};

static FN int work(int x) { return x + IF_FIXED(2, 1); }

static _Atomic long rounds[KINDS];
static _Atomic int wrong;
static __thread volatile int handled;
static void handler(int sig) { handled = 1; }

static int wait_for_signal(int k, int ep, const sigset_t *none)
{
	struct epoll_event ev;
	switch (k) {
	case EPOLL_PWAIT: return epoll_pwait(ep, &ev, 1, -1, none);
	case PPOLL: return ppoll(NULL, 0, NULL, none);
	case PSELECT: return pselect(0, NULL, NULL, NULL, NULL, none);
	}
	return sigsuspend(none);
}
static void *thread(void *arg)
{
	int k = (int)(long)arg, ep = epoll_create1(0);
	struct sigevent to = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	struct itimerspec soon = {.it_value.tv_nsec = 3000000};
	timer_t timer;
	sigset_t none;
	sigemptyset(&none);
	to._sigev_un._tid = (int)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &to, &timer))
		abort();
	for (;; rounds[k]++) {
		handled = 0;
		timer_settime(timer, 0, &soon, NULL);
		if (wait_for_signal(k, ep, &none) != -1 || errno != EINTR || !handled)
			wrong++;
	}
}
/* Each thread gets on, or is named. */
static void going(void)
{
	int n = 0;
	for (int k = 0; k < KINDS; k++) {
		long until = rounds[k] + 3;
		for (int ms = 0; rounds[k] < until && ms < 10000; ms++)
			usleep(1000);
		if (rounds[k] < until)
			n += printf("%s waits for ever ", names[k]);
	}
	if (wrong)
		n += printf("%d calls ended without a handler", wrong);
	if (!n)
		printf("all");
}
void answer(const char *cmd)
{
	if (IS("start")) {
		sigset_t usr1;
		pthread_t t;
		sigemptyset(&usr1);
		sigaddset(&usr1, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &usr1, NULL);
		sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler}, NULL);
		for (long k = 0; k < KINDS; k++)
			pthread_create(&t, NULL, thread, (void *)k);
		printf("%d", KINDS);
	} else if (IS("going"))
		going();
	else if (IS("value"))
		printf("%d", work(0));
}
