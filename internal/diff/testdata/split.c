// cc: gcc -O2 -fPIC -shared
// SPLIT: refused unpaired-function
// A callback most of which was taken out of it, into a function of other
// parameters: the larger part is more like it than what is left.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
struct ops { int (*handle)(const char *, long); int level; };
#define BODY \
	char *copy = strdup(name); \
	if (!copy) { perror("strdup of the name"); return -1; } \
	if (access(name, R_OK)) { puts("it cannot be read"); free(copy); return -2; } \
	char *home = getenv("HOME"); \
	if (home) { puts("there is a home"); strncat(copy, home, 1); } \
	if (!strchr(copy, ':')) { puts("it has no colon"); free(copy); return -4; } \
	long sum = atol(copy); puts("the sum follows"); \
	free(copy);
#ifdef SPLIT
__attribute__((noipa, noinline)) static int render(long *out, const char *name) {
  BODY
  *out = sum;
  return 0;
}
__attribute__((noipa, noinline)) static int handle_text(const char *name, long n) {
  long sum;
  if (n < 0) { puts("it is negative"); return -3; }
  if (render(&sum, name)) return -1;
  return sum + n;
}
#else
__attribute__((noipa, noinline)) static int handle(const char *name, long n) {
  if (n < 0) { puts("it is negative"); return -3; }
  BODY
  return sum + n;
}
#endif
void setup(struct ops *o, int level) {
#ifdef SPLIT
  o->handle = handle_text;
  o->level = level + 2;
#else
  o->handle = handle;
  o->level = level + 1;
#endif
}
