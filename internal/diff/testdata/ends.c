// cc: gcc -O2 -fPIC -shared
// NEWVAR: refused
// NEWCONST: refused unpaired-data
// NEAR: patchable total
// SCALAR: patchable total
#include <stdio.h>
#include <string.h>
struct entry { long key, value; };
#define HIDDEN __attribute__((visibility("hidden")))
HIDDEN struct entry entries[10];
#ifdef NEWVAR
HIDDEN struct entry extra[2];
#endif
HIDDEN struct entry after[10];
HIDDEN long count;
#ifdef SCALAR
HIDDEN long calls;
#endif
HIDDEN const struct entry known[6] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}, {11, 12}};
#ifdef NEWCONST
HIDDEN const struct entry unknown[3] = {{8, 2}, {8, 4}, {8, 6}};
#endif
HIDDEN const struct entry behind[3] = {{1, 2}, {3, 4}, {5, 6}};
extern long use(const void *, long);
long total(long k) {
  long n = 0;
#ifdef NEAR
  if (k < 0) return -1;
#endif
#ifdef NEWVAR
  use(extra, 3);
#endif
#ifdef SCALAR
  calls++;
#endif
  for (struct entry *e = entries; e != entries + 10; e++) n += use(e, k);
  return n + count;
}
long clear(long k) {
  for (struct entry *e = entries; e != entries + 10; e++) { use(e, k); count++; }
  return count;
}
long clear2(long k) {
  for (struct entry *e = after; e != after + 10; e++) { use(e, k); count++; }
  return use(after, k) + count;
}
long find(long k) {
  for (const struct entry *e = known; e != known + 6; e++) if (use(e, k)) return 1;
  return 0;
}
long scan(long k) {
#ifdef NEWCONST
  for (const struct entry *e = unknown; e != unknown + 3; e++) if (use(e, k)) return 2;
#endif
  return use(known, k) + use(behind, k);
}
