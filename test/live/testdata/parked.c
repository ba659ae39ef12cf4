/* A thread sits in a changed function, on its own stack or below a signal
 * handler on an alternate stack, until it is let go. */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include "live.h"

static int gate[2], tid, result;
static pthread_t t;
static volatile int handled;

static FN int hold(void)
{
	char c;
	int r;
	if (read(gate[0], &c, 1) != 1)
		abort();
	r = c;
	OPAQUE(r);
	return r - 'x';
}
static FN int parked(int x) { return hold() + x + IF_FIXED(200, 10); }
static FN int deep(int n, int x) { return n ? deep(n - 1, x) + (n & 0) : parked(x); }
static FN int signalled(int x)
{
	raise(SIGUSR1);
	return x + handled * 0 + IF_FIXED(3000, 300);
}
#ifdef TWO
static FN int other(int x) { return x + IF_FIXED(7, 6); }
#else
static FN int other(int x) { return x + 6; }
#endif
static void handler(int sig)
{
	(void)sig;
	hold();
	handled = 1;
}
static void *park(void *how)
{
	stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536};
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	__atomic_store_n(&tid, (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	switch (*(char *)how) {
	case 'p': result = parked(0); break;
	case 'd': result = deep(3000, 0); break;
	case 's': result = signalled(0); break;
	case 'h': raise(SIGUSR1); result = 1; break; /* the handler alone, nothing changed */
	}
	return NULL;
}

void answer(const char *cmd)
{
	static char how;
	if (IS("park")) {
		if (!gate[1] && pipe(gate))
			abort();
		how = strchr(cmd, ' ')[1];
		tid = 0;
		pthread_create(&t, NULL, park, &how);
		while (!__atomic_load_n(&tid, __ATOMIC_SEQ_CST))
			usleep(1000);
		usleep(50000);
		printf("%d", tid);
	} else if (IS("release")) {
		if (write(gate[1], "x", 1) != 1)
			abort();
		pthread_join(t, NULL);
		printf("%d", result);
	} else if (IS("value")) {
		if (!gate[1] && pipe(gate))
			abort();
		if (write(gate[1], "x", 1) != 1)
			abort();
		printf("%d", parked(0) + other(0));
	}
}
