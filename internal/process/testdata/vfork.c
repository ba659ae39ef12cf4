/* A program whose only thread waits for its child of vfork. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("ready");
	fflush(stdout);
	if (vfork() == 0) {
		sleep(60);
		_exit(0);
	}
	return 0;
}
