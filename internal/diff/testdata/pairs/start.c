// cc: gcc -O2 -fPIC -shared
// DIRECT: refused constructor-changed
// HELPER: refused constructor-changed
// MORE: refused constructor-changed
// SHARED: patchable common
// Code that has run already when the module was loaded.
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noipa))
#endif
extern int ask(int);
static int table[64], ready, other;
APART static void fill(int n) {
  for (int i = 0; i < n; i++)
#ifdef HELPER
    table[i & 63] = ask(i) + 1;
#else
    table[i & 63] = ask(i);
#endif
}
APART static void common(int n) {
#ifdef SHARED
  if (n > 9) return;
#endif
  other = ask(n);
}
__attribute__((constructor)) static void init(void) {
  fill(64);
  common(2);
#ifdef DIRECT
  ready = ask(4);
#else
  ready = ask(3);
#endif
}
#ifdef MORE
__attribute__((constructor)) static void init2(void) { ready = ask(9); }
#endif
int get(int i) { common(i); return table[i & 63] + ready + other; }
