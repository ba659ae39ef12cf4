// cc: gcc -O2 -fPIC -shared
// DOUBLED: refused data-layout
// ODD: refused data-layout
// NEAR: patchable get set
// Elements of an array that is allocated for a number of them.
#include <stdlib.h>
struct pair {
  int a, b;
#ifdef DOUBLED
  int c, d;
#endif
};
struct odd {
  int a, b, c;
#ifdef ODD
  int d, e;
#endif
};
static struct pair *pairs;
static struct odd *odds;
static unsigned count;
void make(unsigned n) {
  count = n;
  pairs = calloc(n, sizeof *pairs);
  odds = calloc(n, sizeof *odds);
}
int set(unsigned i, int v) {
#ifdef NEAR
  if (!pairs) return -1;
#endif
  if (i >= count) return -1;
  pairs[i].a = v;
  return odds[i].a = v;
}
int get(unsigned i) {
#ifdef NEAR
  i *= 5;
  i %= 7;
#endif
  if (i >= count) return -1;
  return pairs[i].a + odds[i].a;
}
