/*
 * Preloaded into a program, this holds it before main: everything is mapped
 * and relocated, and none of the program's own code runs. With HOLD_LOAD it
 * loads those libraries first, one a line. It answers every byte on descriptor 3 with the
 * same byte on descriptor 4; the end of 3 ends the program.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const char *word, const char *detail)
{
	dprintf(4, "%s %s\n", word, detail);
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
	while (read(3, &c, 1) == 1)
		if (write(4, &c, 1) != 1)
			break;
	_exit(0);
}
