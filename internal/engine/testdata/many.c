/* Sleeps until SIGTERM, and exits with what the changed function says. With an
   argument it sleeps inside that function. Says "r" when it is ready. */
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static void end(int sig) { ended = sig; }

__attribute__((noipa)) static int answer(int inside)
{
	while (inside && !ended)
		poll(0, 0, 20);
	return FIX ? 2 : 1;
}

int main(int argc, char **argv)
{
	(void)argv;
	signal(SIGTERM, end);
	if (write(1, "r", 1) != 1)
		return 9;
	if (argc > 1)
		return answer(1);
	while (!ended)
		poll(0, 0, 20);
	return answer(0);
}
