/* One of many processes to be patched: it sleeps, and calls a function that the
   fixed build changes. */
#include <poll.h>

#ifdef FIXED
#define BUILD 2
#else
#define BUILD 1
#endif

static volatile int said;

__attribute__((noipa)) static int answer(int x) { return x % 10 * 10 + BUILD; }

int main(void)
{
	for (;;) {
		said = answer(said);
		poll(0, 0, 1000);
	}
}
