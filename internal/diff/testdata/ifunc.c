// cc: gcc -O2 -fPIC -shared
// RESOLVER: refused constructor-changed
// NEAR: patchable slow
// LOCAL: patchable caller
static int slow(int x) {
#ifdef NEAR
  return x * 3 % 18;
#else
  return x * 3 % 17;
#endif
}
static int fast(int x) { return x * 3 % 17 + 0; }
extern int cpu(void);
static int (*resolve(void))(int) {
#ifdef RESOLVER
  return cpu() > 4 ? fast : slow;
#else
  return cpu() > 3 ? fast : slow;
#endif
}
int compute(int) __attribute__((ifunc("resolve")));
static int inner(int) __attribute__((ifunc("resolve")));
int caller(int x) {
#ifdef LOCAL
  if (x > 100) return 4;
#endif
  return compute(x) + inner(x + 1);
}
