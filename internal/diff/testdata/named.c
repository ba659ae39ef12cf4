// cc: gcc -O2 -fPIC -shared
// REWRITTEN: patchable setup handle
// UNNAMED: patchable setup handle
// REPLACED: refused unpaired-function
// A callback that only a changed function names, and that the compiler gives
// other registers and another place.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
struct ops { int (*handle)(const char *, long); int level; };
__attribute__((noipa, noinline)) static int handle(const char *name, long n);
__attribute__((noipa, noinline)) static int answer(const char *name, long n);
#define BODY \
	char *copy = strdup(name); \
	if (!copy) { perror("strdup of the name"); return -1; } \
	if (access(name, R_OK)) { puts("it cannot be read"); free(copy); return -2; } \
	if (n < 0) { puts("it is negative"); free(copy); return -3; } \
	char *home = getenv("HOME"); \
	if (home) { puts("there is a home"); strncat(copy, home, EXTRA); } \
	if (!strchr(copy, ':')) { puts("it has no colon"); free(copy); return -4; } \
	long sum = atol(copy); puts("the sum follows"); \
	free(copy);
#if !defined REWRITTEN && !defined UNNAMED
__attribute__((noipa, noinline)) static int handle(const char *name, long n) {
#define EXTRA 1
  BODY
  return sum + n;
}
#endif
int other(int x) { puts("another function"); return x * 3; }
#if defined REWRITTEN || defined UNNAMED
__attribute__((noipa, noinline)) static int handle(const char *name, long n) {
  long a = strlen(name), b = a * n, c = a ^ n;
#undef EXTRA
#define EXTRA (size_t)(c & 1)
  BODY
  return sum + n + a * b + c;
}
#endif
#ifdef REPLACED
__attribute__((noipa, noinline)) static int answer(const char *name, long n) { return n > 4 ? name[n] : 3; }
#endif
void setup(struct ops *o, int level) {
#ifdef REPLACED
  o->handle = answer;
#elif defined UNNAMED
  extern void enter(int, int, struct ops *, int (*)(const char *, long));
  enter(1, 2, o, handle);
#else
  o->handle = handle;
#endif
#if defined REWRITTEN || defined REPLACED
  o->level = level + 2;
#else
  o->level = level + 1;
#endif
}
