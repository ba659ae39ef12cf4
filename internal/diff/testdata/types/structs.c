// cc: gcc -O2 -fPIC -shared -g
// SWAPPED: refused data-layout
// WIDER: refused data-layout
// BITS: refused data-layout
// LENGTH: refused data-layout
// TOGETHER: refused data-layout
// BEHIND: refused data-layout
// STATIC: refused data-layout
// UNUSED: patchable fix
// SIGNED: patchable fix
// RENAMED: patchable fix
// POINTEE: patchable fix
// PADDING: patchable ~no-effect-on-existing-objects fix
// Types that a changed function can reach, where its code tells nothing of them.
extern int work(int);
struct deep {
  int x;
#ifdef BEHIND
  long y;
#endif
};
union both {
  int i;
#ifdef TOGETHER
  double d[2];
#else
  double d;
#endif
};
struct unused {
  int x;
#ifdef UNUSED
  int more[8];
#endif
};
struct s {
#ifdef SIGNED
  unsigned a;
#else
  int a;
#endif
#ifdef PADDING
  int filled;
#endif
  long id;
#ifdef SWAPPED
  int c, b;
#else
  int b, c;
#endif
  struct deep *deep;
  union both both;
#ifdef RENAMED
  int flag, more;
#else
  int reserved1, reserved2;
#endif
#ifdef BITS
  unsigned f : 4, g : 4;
#else
  unsigned f : 3, g : 5;
#endif
#ifdef POINTEE
  struct unused *any;
#else
  void *any;
#endif
#ifdef LENGTH
  short list[4];
#else
  short list[8];
#endif
#ifdef WIDER
  long last;
#else
  int last;
#endif
};
#ifdef STATIC
static struct state { int a, b; long c; } state;
#else
static struct state { int a; long c; int b; } state;
#endif
int fix(struct s *s) {
#if defined SWAPPED || defined WIDER || defined BITS || defined LENGTH || defined TOGETHER || defined BEHIND || defined STATIC || \
    defined UNUSED || defined SIGNED || defined RENAMED || defined POINTEE || defined PADDING
  if (s == 0) return work(1);
#endif
  return work(s->a) + state.a;
}
int keep(struct unused *u) { return work(u->x); }
void store(int n) { state.a = n; }
