// cc: gcc -O2 -fPIC -shared
// LABELS: refused label-table
// NEAR: patchable other
int run(const unsigned char *p, int x) {
  static const void *const labels[] = {&&l0, &&l1, &&l2, &&l3};
  goto *labels[*p & 3];
l0:
#ifdef LABELS
  x += 7; goto *labels[*++p & 3];
#else
  x += 1; goto *labels[*++p & 3];
#endif
l1: x *= 3; goto *labels[*++p & 3];
l2: x ^= 9; goto *labels[*++p & 3];
l3: return x;
}
int other(int x) {
#ifdef NEAR
  return x < 0 ? 0 : x * 2 % 77;
#else
  return x * 2 % 77;
#endif
}
