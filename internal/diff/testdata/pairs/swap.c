// cc: gcc -O2 -fPIC -shared
// SWAP: refused data-layout
// ROTATE: refused data-layout
// POINTERS: refused data-layout
// BYTES: refused data-layout
// OTHER: patchable sum
// CHECK: patchable sum link
// Fields of one type that change places: no offset comes or goes.
#include <stddef.h>
extern void *get(size_t);
struct s {
  int a;
#ifdef SWAP
  int c, b;
#else
  int b, c;
#endif
#ifdef ROTATE
  int f, d, e;
#else
  int d, e, f;
#endif
#ifdef POINTERS
  struct s *last, *next;
#else
  struct s *next, *last;
#endif
#ifdef BYTES
  unsigned char y, x;
#else
  unsigned char x, y;
#endif
};
struct s *make(int k) {
  struct s *s = get(64);
  s->a = k;
  s->b = 2;
  s->c = 3;
  s->d = 4;
  s->e = 5;
  s->f = 6;
  s->x = 7;
  s->y = 8;
  return s;
}
int sum(struct s *s) {
#ifdef CHECK
  if (!s) return 0;
#endif
#ifdef OTHER
  return s->a + 3 * s->c + 5 * s->c;
#else
  return s->a + 3 * s->b + 5 * s->c;
#endif
}
int three(struct s *s) { return s->d * 3 + s->e * 5 + s->f * 9; }
int bytes(struct s *s) { return s->x * 3 + s->y * 5; }
struct s *link(struct s *s, struct s *t) {
#ifdef CHECK
  if (t == s) return NULL;
#endif
  s->next->last = t;
  t->last = s;
  t->next = s->next;
  s->next = t;
  return s->last;
}
