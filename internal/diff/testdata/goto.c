// cc: gcc -O2 -fPIC -shared
// LABELS: patchable run
// NEAR: patchable other
// KEPT: refused label-table
// TAKEN: refused label-table
// SHARED: refused label-table
// A function with tables of labels, which it takes along when only its own
// jumps use them.
static const void *const *used;
int help(int);
int run(const unsigned char *p, int x) {
  static const void *const labels[] = {&&l0, &&l1, &&l2, &&l3};
  goto *labels[*p & 3];
l0:
#ifdef LABELS
  x += 7; goto *labels[*++p & 3];
#else
  x += 1; goto *labels[*++p & 3];
#endif
l1: x = help(x); goto *labels[*++p & 3];
l2: x ^= help(x + 1); goto *labels[*++p & 3];
l3: return x + help(2);
}
int keep(const unsigned char *p, const void **at) {
  static const void *const labels[] = {&&l0, &&l1, &&l2};
  int x = 0;
  if (*at) goto **at;
  goto *labels[*p & 1];
l0: x += 5; *at = labels[*++p & 1]; goto **at;
#ifdef KEPT
l1: x -= 4; goto *labels[*++p & 1];
#else
l1: x -= 3; goto *labels[*++p & 1];
#endif
l2: return x;
}
void take(const void *const *);
int taken(const unsigned char *p) {
  static const void *const labels[] = {&&l0, &&l1, &&l2};
  int x = 0;
  take(labels);
  goto *labels[*p % 3];
l0: x += 2; goto *labels[*++p % 3];
#ifdef TAKEN
l1: x -= 4; goto *labels[*++p % 3];
#else
l1: x -= 3; goto *labels[*++p % 3];
#endif
l2: return x;
}
int shared(const unsigned char *p, const void *const **out) {
  static const void *const labels[] = {&&l0, &&l1, &&l2};
  int x = 0;
  used = labels;
  goto *labels[*p % 3];
l0: x += 2; goto *labels[*++p % 3];
#ifdef SHARED
l1: x -= 4; goto *labels[*++p % 3];
#else
l1: x -= 3; goto *labels[*++p % 3];
#endif
l2: return x;
}
int other(int x) {
#ifdef NEAR
  return used ? 0 : x * 2 % 77;
#else
  return used ? x : x * 2 % 77;
#endif
}
