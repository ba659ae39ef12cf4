// cc: gcc -O2 -fPIC -shared
// MIDDLE: refused data-layout
// END: refused data-layout
// SWAP: refused data-layout
// NEAR: patchable make sum
#include <stdlib.h>
struct s {
  int a;
#ifdef MIDDLE
  long between;
#endif
#ifdef SWAP
  int c, b;
#else
  int b, c;
#endif
  char *p;
#ifdef END
  long end;
#endif
};
struct s *make(int x) {
  struct s *s = malloc(sizeof *s);
  if (!s) return NULL;
  s->a = x;
  s->b = 2;
  s->c = 3;
#ifdef NEAR
  s->p = "x";
#else
  s->p = NULL;
#endif
#ifdef END
  s->end = 0;
#endif
  return s;
}
int sum(struct s *s) {
#ifdef NEAR
  if (!s) return 0;
#endif
  return s->a + 3 * s->b + 5 * s->c;
}
