/* Attaches to a process and holds on to it until stdin ends. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char c;
	alarm(60);
	if (argc < 2 || ptrace(PTRACE_SEIZE, atoi(argv[1]), 0, 0)) {
		perror("seize");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
