// cc: gcc -O2 -fPIC -shared
// FIX: patchable third tenth
// Sums that the compiler computes with an instruction for addresses.
#ifdef FIX
#define N 2
#else
#define N 1
#endif
long third(long x) { return x * 3 + N; }
long tenth(long x) { return x * 10 + N; }
long plus(long x, long y) { return x + y * 8 + 4; }
