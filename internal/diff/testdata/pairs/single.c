// cc: gcc -O2 -fPIC -shared
// LOAD: refused data-layout
// STORE: refused data-layout
// FLAG: refused data-layout
// NEAR: patchable load
// ORDER: patchable both
// One field alone that is somewhere else now, in one function.
struct s {
  long a, b;
#ifdef LOAD
  long pad, c;
#else
  long c;
#endif
  long d[4];
#ifdef STORE
  short g, f;
#else
  short f, g;
#endif
  long e[2];
#ifdef FLAG
  char h, i, flag;
#else
  char flag, h, i;
#endif
};
struct t { long a, b, c, d; };
long load(struct s *s) {
#ifdef NEAR
  if (s->a > 4) return 0;
#endif
  return s->c + 1;
}
void store(struct s *s, int x) { s->f = x; }
int flag(struct s *s) { return s->flag == 1; }
void both(struct t *t, long x) {
#ifdef ORDER
  t->c = x * 9;
  t->b = x * 5;
#else
  t->b = x * 5;
  t->c = x * 9;
#endif
}
