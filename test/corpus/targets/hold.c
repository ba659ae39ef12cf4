/*
 * Preloaded into a program, this holds it before main: everything is mapped
 * and relocated, and none of the program's own code runs. With HOLD_LOAD it
 * loads those libraries first, one a line. It obeys bytes on descriptor 3 and
 * answers each with one byte on descriptor 4; the end of 3 ends the program.
 *
 *   .   the answer is the same
 *   r   a copy of the process goes on to main, with its standard error where
 *       its standard output goes; the answer is its exit status, or 128 plus
 *       the number of the signal that ended it
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *word, const char *detail)
{
	dprintf(4, "%s %s\n", word, detail);
}

/* copy forks, and tells in the parent how the child ended. */
static int copy(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(3);
		close(4);
		dup2(1, 2);
		return -1;
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		_exit(4);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

__attribute__((constructor)) static void hold(void)
{
	char *libraries = getenv("HOLD_LOAD"), *lazy = getenv("HOLD_LAZY"), c;

	unsetenv("LD_PRELOAD"); /* not for what the program may start */
	for (char *l = libraries ? strtok(libraries, "\n") : NULL; l; l = strtok(NULL, "\n"))
		if (!dlopen(l, (lazy ? RTLD_LAZY : RTLD_NOW) | RTLD_GLOBAL)) {
			say("failed", dlerror());
			_exit(3);
		}
	say("ready", "");
	while (read(3, &c, 1) == 1) {
		if (c == 'r') {
			int status = copy();
			if (status < 0)
				return;
			c = (char)status;
		}
		if (write(4, &c, 1) != 1)
			break;
	}
	_exit(0);
}
