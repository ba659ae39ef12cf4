// cc: gcc -O2 -fPIC -shared
// HEAP: refused data-layout
// POOL: refused data-layout
// STATIC: refused data-layout
// BUFFER: refused data-layout
// LIMIT: patchable check
// INSIDE: patchable use make
// A struct that grows at its end, and numbers that grow without one.
#include <stdlib.h>
#include <string.h>
struct heap {
  int a, b, c, d;
#ifdef HEAP
  long seen;
#endif
};
struct pool {
  long a, b, c, d;
#ifdef POOL
  long seen;
#endif
};
struct entry {
  long a, b;
#ifdef STATIC
  long c;
#endif
};
extern void *pool_alloc(void *, size_t);
static struct entry entries[16];
static void *arena;
struct heap *make(void) {
  struct heap *h = malloc(sizeof *h);
#ifdef INSIDE
  if (!h) return NULL;
#endif
  h->a = 1;
#ifdef HEAP
  h->seen = 1;
#endif
  return h;
}
struct pool *make_pool(void) {
  struct pool *p = pool_alloc(&arena, sizeof *p);
  p->a = 2;
#ifdef POOL
  p->seen = 2;
#endif
  return p;
}
char *buffer(void) {
#ifdef BUFFER
  return malloc(128);
#else
  return malloc(64);
#endif
}
long use(struct pool *p) {
#ifdef INSIDE
  if (p->d == 7) return 1;
#endif
  return p->c;
}
int check(size_t n) {
#ifdef LIMIT
  return n > 128 ? -1 : 5;
#else
  return n > 64 ? -1 : 5;
#endif
}
long find(long k) {
  for (int i = 0; i < 16; i++)
    if (entries[i].a == k) return entries[i].b;
  return 0;
}
void put(unsigned i, long k) {
  entries[i & 15].a = k;
#ifdef STATIC
  entries[i & 15].c = k;
#endif
}
