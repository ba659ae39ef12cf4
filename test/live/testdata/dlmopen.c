/* A program that has its library twice: in its own namespace of the dynamic
 * linker, and in another one. */
#define HOST
#include "live.h"
#include <dlfcn.h>
static void (*mine)(const char *), (*theirs)(const char *);
static void load(void)
{
	void *lib = dlmopen(LM_ID_NEWLM, "libcase.so", RTLD_NOW);
	if (!lib || !(theirs = (void (*)(const char *))dlsym(lib, "answer"))) {
		puts(dlerror());
		exit(1);
	}
}
static void both(const char *cmd)
{
	if (!theirs)
		load();
	mine(cmd);
	putchar(' ');
	fflush(stdout);
	theirs(cmd);
}
static void setup(void)
{
	void *lib = dlopen("libcase.so", RTLD_NOW);
	if (!lib || !(mine = (void (*)(const char *))dlsym(lib, "answer"))) {
		puts(dlerror());
		exit(1);
	}
#ifndef LATER
	load();
#endif
	ask = both;
}
