/* Loads and unloads the library of the case as it is told. */
#include <dlfcn.h>
#include "live.h"

static void *lib;
static void (*inner)(const char *);

void answer(const char *cmd)
{
	if (IS("open")) {
		lib = dlopen(strchr(cmd, ' ') + 1, RTLD_NOW | RTLD_LOCAL);
		inner = lib ? (void (*)(const char *))dlsym(lib, "answer") : NULL;
		printf(inner ? "opened" : "%s", dlerror());
	} else if (IS("close")) {
		printf("%d", dlclose(lib));
	} else {
		inner(cmd);
	}
}
