// cc: gcc -O2 -fPIC -shared
// INDEX: refused data-layout
// SHORT: refused data-layout
// ARRAY: refused data-layout
// LIST: refused data-layout
// THREAD: refused data-layout
// LINK: refused data-layout
// ARM: refused data-layout
// ANOTHER: patchable arm
// CHECK: patchable sum
// Variables whose own type is another one, and an object that is used at another offset although no type says so.
#include <stdlib.h>
struct p { long x, y; };
#ifdef INDEX
static long level;
#else
static char *level;
#endif
#ifdef SHORT
static short *list;
#else
static int *list;
#endif
#ifdef ARRAY
static int table[8][8];
#else
static int table[4][16];
#endif
#ifdef LIST
static struct p **all;
#else
static struct p *all;
#endif
#ifdef THREAD
static __thread long depth;
#else
static __thread char *depth;
#endif
static char text[64];
void raise(int by) { level += by; }
#ifdef INDEX
int raised(void) { return text[level]; }
#else
int raised(void) { return *level; }
#endif
void keep(void *p) { list = p; }
int kept(int i) { return list[i]; }
void put(int i, int k, int x) { table[i][k] = x; }
int sum(int i) {
#ifdef CHECK
  if (i < 0) return -1;
#endif
  return table[i][1] + table[i][2];
}
void set(void *p) { all = p; }
long get(int i) {
#ifdef LIST
  return all[i]->y;
#else
  return all[i].y;
#endif
}
void down(int by) { depth += by; }
#ifdef THREAD
int bottom(void) { return text[depth]; }
#else
int bottom(void) { return *depth; }
#endif
static void *freed;
void give(char *p) {
#ifdef LINK
  *(void **)(p + 24) = freed;
#else
  *(void **)p = freed;
#endif
  freed = p;
}
void *take(void) {
  char *p = freed;
#ifdef LINK
  freed = *(void **)(p + 24);
#else
  freed = *(void **)p;
#endif
  return p;
}

union arms {
  long l;
  char *s;
#ifdef ARM
  double d;
#else
  int i;
#endif
#ifdef ANOTHER
  void *p;
#endif
};
struct value {
  int kind;
  union arms u;
};
long arm(struct value *v, int x) {
#ifdef ANOTHER
  if (v->kind == 9) return v->u.p != NULL;
#endif
#ifdef ARM
  if (v->kind == 1) v->u.d += x;
#else
  if (v->kind == 1) v->u.i += x;
#endif
  return v->kind == 2 ? v->u.l * 3 : v->kind == 3 ? v->u.s[1] : x;
}
