// cc: gcc -O2 -fPIC -shared
// LIMIT: refused live-value-changed
// TABLE: refused live-value-changed
// COUNT: patchable check
// CACHE: patchable check
// New variables: set by code that has run already, or by those who read them.
#include <stdlib.h>
extern int parse(const char *);
extern int allowed(int);
static int level;
#ifdef LIMIT
static int limit;
#elif defined TABLE
static int *table;
#elif defined COUNT
static int count;
#elif defined CACHE
static int cached;
#endif
void setup(const char *s) {
  level = parse(s);
#ifdef LIMIT
  limit = parse(s + 1);
#elif defined TABLE
  table = calloc(16, sizeof *table);
#endif
}
int check(int n) {
#ifdef LIMIT
  if (n > limit) return -1;
#elif defined TABLE
  if (table[n & 15]) return -1;
#elif defined COUNT
  if (++count > 1000) return -1;
#elif defined CACHE
  if (!cached) cached = allowed(0) + 1;
  if (cached > n) return -1;
#endif
  return allowed(n) + level;
}
