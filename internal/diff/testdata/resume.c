// cc: gcc -O2 -fPIC -shared
// STEP: refused label-table
// NEAR: patchable other
// A function that keeps the address of one of its labels, to go on there when
// it is called again: what was kept leads into the baseline's.
#include <stdio.h>
struct task { void *at; int n; };
int step(struct task *t, int x) {
  if (x < 0) puts("negative");
  if (t->at) goto *t->at;
#ifdef STEP
  puts("first");
#endif
  t->n = x; t->at = &&second; return 1;
second:
  t->n += x; t->at = &&third; return 2;
third:
  t->at = 0; return t->n * x;
}
int other(int x) {
#ifdef NEAR
  return x < 0 ? 0 : x * 2 % 77;
#else
  return x * 2 % 77;
#endif
}
