// cc: gcc -O2 -fPIC -shared
// MEMBER: refused data-layout
// ARRAY: refused data-layout
// INNER: refused data-layout
// NEAR: patchable last
// A struct that grows in the middle.
struct inner {
  int a;
#ifdef INNER
  int extra;
#endif
  int b;
};
struct s {
  int id;
#ifdef MEMBER
  void *owner;
#endif
#ifdef ARRAY
  char name[24];
#else
  char name[16];
#endif
  struct inner in;
  long last;
};
long last(struct s *s) {
#ifdef NEAR
  if (s->in.a > 7) return 0;
#endif
  return s->last;
}
int inner(struct s *s) { return s->in.b; }
