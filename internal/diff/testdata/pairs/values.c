// cc: gcc -O2 -fPIC -shared
// NUMBER: refused initial-value-changed
// POINTER: refused initial-value-changed
// SETUP: refused initial-value-changed
// COMPUTED: refused initial-value-changed
// ZEROED: refused initial-value-changed
// NEAR: patchable clamp
// SEVERAL: patchable fail
// COUNTED: patchable count
// Values that live data was given, or computed from.
#include <stddef.h>
#ifdef NUMBER
static int limit = 9;
#else
static int limit = 8;
#endif
#ifdef POINTER
static const char *name = "other";
#else
static const char *name = "name";
#endif
#ifdef SETUP
#define MASK 127
#else
#define MASK 63
#endif
#ifdef COMPUTED
#define POLY 0x1db71064
#else
#define POLY 0x1db71065
#endif
static int error, total;
__attribute__((visibility("hidden"))) int mask;
#ifdef ZEROED
static int level = 4;
#else
static int level;
#endif
static unsigned table[256];
void setup(void) { mask = MASK; }
void compute(void) {
  for (unsigned i = 0; i < 256; i++) {
    unsigned c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ POLY : c >> 1;
    table[i] = c;
  }
}
int fail(int x) {
  if (x < 0) {
#ifdef SEVERAL
    error = 5;
#else
    error = 22;
#endif
    return -1;
  }
  return 0;
}
int failed(int x) { error = x; return error; }
int reset(void) { int e = error; error = 0; return e; }
unsigned slot(unsigned h) { return table[h & mask & 255]; }
void rename_it(const char *s) { name = s; limit++; level++; }
const char *called(void) { return name; }
int clamp(int x) {
#ifdef NEAR
  return x >= limit ? level : x;
#else
  return x > limit ? level : x;
#endif
}
void count(int n) {
#ifdef COUNTED
  total += 2;
#else
  total += 1;
#endif
  total ^= n;
}
int counted(void) { return total; }
