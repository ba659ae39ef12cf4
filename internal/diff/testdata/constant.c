// cc: gcc -O2 -fPIC -shared
// IMMEDIATE: patchable limit
// STRING: patchable hello
// CALLEE: patchable twice
// GLOBAL: patchable get
// TABLE: patchable lookup
// TWO: patchable limit hello
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef IMMEDIATE
#define N 63
#elif defined TWO
#define N 61
#else
#define N 64
#endif
#if defined STRING || defined TWO
#define TEXT "good evening"
#else
#define TEXT "good morning"
#endif
static int one = 1, two = 2, three;
#ifdef TABLE
static const int table[] = {5, 4, 3, 2, 9, 8, 8, 7};
#else
static const int table[] = {5, 4, 3, 2, 9, 8, 7, 7};
#endif
int limit(int x) { three += x; return x > N ? -1 : x; }
void hello(void) { puts(TEXT); puts("to you"); }
__attribute__((noinline)) static int add(int x) { one += x; return one; }
__attribute__((noinline)) static int sub(int x) { two -= x; return two; }
int twice(int x) {
#ifdef CALLEE
  return sub(x) * 2 + sub(3);
#else
  return add(x) * 2 + sub(3);
#endif
}
int other(int x) { return add(x) + 1; }
int more(int x) { return sub(x) + 2 + one + two; }
int less(int x) { one -= x; two += x; three++; return one * two; }
int last(int x) { one = two = x; three++; return one - two; }
int get(void) {
#ifdef GLOBAL
  return two;
#else
  return one;
#endif
}
int reset(void) { one = 0; two = 0; three = 0; return one; }
int swap(void) { int t = one; one = two; two = t; return three; }
int lookup(unsigned i) { return table[i & 7]; }
