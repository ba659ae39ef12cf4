// cc: gcc -O2 -fPIC -shared
// VALUE: refused initial-value-changed
// GROWN: refused data-layout
// RELRO: refused constant-data-changed
// EXPORT: refused removed-export
// OBJECT: refused data-layout
// CONSTRUCTOR: refused constructor-changed
// CONSTRUCTED: refused constructor-changed
// STORED: refused unpaired-function
// CONST: refused constant-data-changed
// NEAR: patchable use walk
// NEW: patchable use
#include <string.h>
#include <stdio.h>
#ifdef VALUE
static int start[4] = {1, 2, 3, 5};
#else
static int start[4] = {1, 2, 3, 4};
#endif
#ifdef GROWN
static char buffer[148];
#else
static char buffer[100];
#endif
static char after[64];
#ifdef OBJECT
int exported[6];
#else
int exported[5];
#endif
#ifdef CONST
const int powers[4] = {1, 10, 100, 1001};
#else
const int powers[4] = {1, 10, 100, 1000};
#endif
#ifdef NEW
static int seen;
#endif
static int one(int x) { return x + start[0]; }
static int two(int x) { return x * start[1]; }
__attribute__((noinline)) static int three(int x) { return x - start[2] / 7; }
static int (*const ops[])(int) = {one, two,
#ifdef RELRO
  two,
#else
  one,
#endif
};
#ifndef EXPORT
int gone(int x) { return x * 7 + 1; }
#endif
static int (*slot)(int);
void set(int x) {
#ifdef STORED
  slot = x ? one : two; start[3] += x;
#else
  slot = x ? three : two; start[3] += x;
#endif
}
int use(int x, const char *s) {
#ifdef NEAR
  if (strlen(s) > 99) return -1;
#endif
#ifdef NEW
  if (seen++ > 3) return -2;
#endif
  strcpy(buffer, s);
#ifdef GROWN
  buffer[147] = 0;
#endif
  return slot(x) + exported[2] + start[3];
}
int walk(int n, int x) {
#ifdef NEAR
  if ((unsigned)n > 2) return 0;
#endif
  strcpy(after, "walk");
  return ops[n](x);
}
__attribute__((constructor)) static void init(void) {
  start[1] = 8;
#ifdef CONSTRUCTOR
  start[2] = 8;
#endif
}
#ifdef CONSTRUCTED
__attribute__((constructor)) static void init2(void) { start[0] = 8; }
#endif
int keep(void) { puts(after); puts(buffer); return start[0] + start[1] + exported[1]; }
