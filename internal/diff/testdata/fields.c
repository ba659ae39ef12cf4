// cc: gcc -O2 -fPIC -shared
// SWAP: refused data-layout
// FRONT: refused data-layout
// HALVES: refused data-layout
// WIDE: refused data-layout
// FLOAT: refused data-layout
// DOUBLE: refused data-layout
// SHORT: refused data-layout
// PART: refused data-layout
// NEAR: patchable find make
// Changes that leave the size of an object as it was.
#include <stdlib.h>
#ifdef WIDE
typedef long number;
#elif defined FLOAT
typedef float number;
#elif defined DOUBLE
typedef double number;
#elif defined SHORT
typedef short number;
#else
typedef int number;
#endif
struct s {
#ifdef FRONT
  long generation;
#endif
#ifdef SWAP
  number v;
  struct s *next;
#else
  struct s *next;
#ifdef PART
  short lead;
  short v;
#else
  number v;
#endif
#endif
};
#ifdef HALVES
struct pair { int b, a; };
#else
struct pair { int a, b; };
#endif
static struct s *head;
__attribute__((noinline)) void make(int n) {
#ifdef NEAR
  if (n < 0) return;
#endif
  struct s *x = calloc(1, 64);
  x->v = n;
  x->next = head;
  head = x;
}
long find(int k) {
  struct s *x = head;
#ifdef NEAR
  if (!x) return 0;
#endif
  while (k-- > 0) x = x->next;
  return x->v;
}
struct pair *both(int n) {
  struct pair *p = calloc(1, 8);
  p->a = n;
  p->b = n * 3;
  return p;
}
int first(struct pair *p) { return p->a; }
