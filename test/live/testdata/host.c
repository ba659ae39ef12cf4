/* A program whose work is done by libcase.so, linked or loaded at run time. */
#define HOST
#include "live.h"
#ifdef LOADED
#include <dlfcn.h>
int host_level = 70; /* for plugin.c */
int host_limit(int x) { return x > 50 ? 50 : x; }
static void setup(void)
{
	void *lib = dlopen("libcase.so", RTLD_NOW | RTLD_LOCAL);
	if (!lib || !(ask = (void (*)(const char *))dlsym(lib, "answer"))) {
		puts(dlerror());
		exit(1);
	}
}
#else
void answer(const char *cmd);
static void setup(void) { ask = answer; }
#endif
