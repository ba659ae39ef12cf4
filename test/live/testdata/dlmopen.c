/* A program that has its library twice: in its own namespace of the dynamic
 * linker, and in another one. */
#define HOST
#include "live.h"
#include <dlfcn.h>
static void (*mine)(const char *), (*theirs)(const char *);
static void both(const char *cmd)
{
	mine(cmd);
	putchar(' ');
	fflush(stdout);
	theirs(cmd);
}
static void setup(void)
{
	void *a = dlopen("libcase.so", RTLD_NOW), *b = dlmopen(LM_ID_NEWLM, "libcase.so", RTLD_NOW);
	if (!a || !b) {
		puts(dlerror());
		exit(1);
	}
	mine = (void (*)(const char *))dlsym(a, "answer");
	theirs = (void (*)(const char *))dlsym(b, "answer");
	ask = both;
}
