// cc: gcc -O2 -fPIC -shared
// JOINED: patchable fill
// GREW: refused data-layout
// COPY: patchable copy
// WIDE: refused data-layout
// Two fields that are stored at once, and one that took the place of both.
struct s {
  long first;
#ifdef GREW
  long low;
#else
  int low, high;
#endif
};
extern int get(int);
extern void done(struct s *);
void fill(struct s *s, int x) {
#ifdef GREW
  s->low = get(x);
#elif defined JOINED
  s->low = 1;
  s->high = 7;
  done(s);
#else
  s->low = get(x);
  done(s);
  s->high = get(x + 1);
#endif
  done(s);
}
struct t {
  long first;
#ifdef WIDE
  long size;
#else
  int width, height;
#endif
};
extern void copied(struct t *);
void copy(struct t *to, struct t *from) {
#ifdef WIDE
  to->size = from->size;
#elif defined COPY
  if (from->width < 1 || from->height < 1) return;
  to->width = from->width;
  to->height = from->height;
#else
  to->width = from->width;
  copied(to);
  to->height = from->height;
#endif
  copied(to);
}
