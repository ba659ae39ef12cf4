// cc: gcc -O2 -fPIC -shared
// INNER: patchable ~no-effect-on-existing-objects make use
// TAIL: patchable ~no-effect-on-existing-objects make other
// GARBAGE: refused data-layout
// CLEARED: refused data-layout
// NEAR: patchable use
// LATER: patchable ?no-effect-on-existing-objects make use touch
// A new field where there was padding: objects that were made before the patch
// have nothing in it.
#include <stdlib.h>
extern int work(long);
struct s {
  int a;
#if defined INNER || defined LATER
  int checked;
#endif
  long b;
  char c;
#ifdef TAIL
  char limit;
#endif
};
struct s *make(int n) {
  struct s *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->a = n;
  s->b = n * 3;
  s->c = 1;
#if defined INNER || defined LATER
  s->checked = n > 0;
#endif
#ifdef TAIL
  s->limit = n;
#endif
  return s;
}
int use(struct s *s, long k) {
#ifdef NEAR
  if (s->a < 0) return -1;
#endif
#if defined INNER || defined LATER
  if (!s->checked) return -1;
#endif
  return work(s->b + k);
}
int other(struct s *s, int k) {
#ifdef TAIL
  if (k > s->limit) return -1;
#endif
  return work(s->c) + k;
}
void touch(struct s *s) {
#ifdef LATER
  s->checked = 1;
#endif
  s->b++;
}

struct t {
  int a;
#if defined GARBAGE || defined CLEARED
  int checked;
#endif
  long b;
};
struct t *made(int n) {
#ifdef CLEARED
  struct t *t = calloc(1, sizeof *t);
#else
  struct t *t = malloc(sizeof *t);
#endif
  if (!t) return NULL;
  t->a = n;
  t->b = n * 5;
#if defined GARBAGE || defined CLEARED
  t->checked = n > 0;
#endif
  return t;
}
int used(struct t *t, long k) {
#if defined GARBAGE || defined CLEARED
  if (!t->checked) return -1;
#endif
  return work(t->b + k);
}
