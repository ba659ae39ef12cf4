/* A signal handler sits deep in a small alternate stack, below which the
 * program keeps something else. */
#include <signal.h>
#include "live.h"

enum { BELOW = 32768, STACK = 16384, LEFT = 700 };
static char memory[BELOW + STACK] __attribute__((aligned(64)));

static FN int work(int x) { return x + IF_FIXED(2, 1); }

static FN int deep(void)
{
	volatile char room[128] = {0};
	char c = 0;
	if ((char *)room - (memory + BELOW) > LEFT)
		return deep() + room[0];
	while (c != '\n')
		if (read(0, &c, 1) != 1)
			abort();
	return room[0];
}
static void handler(int sig) { deep(); }

void answer(const char *cmd)
{
	if (IS("value"))
		printf("%d", work(0));
	else if (IS("deep")) {
		stack_t own = {.ss_sp = memory + BELOW, .ss_size = STACK};
		int changed = 0;
		if (read(0, memory, 0)) /* bound here: the dynamic linker needs more stack than is left there */
			abort();
		memset(memory, 0xa5, BELOW);
		sigaltstack(&own, NULL);
		sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler, .sa_flags = SA_ONSTACK}, NULL);
		puts("in");
		fflush(stdout);
		raise(SIGUSR1);
		for (int i = 0; i < BELOW; i++)
			changed += (unsigned char)memory[i] != 0xa5;
		printf("%d", changed);
	}
}
