// cc: gcc -O2 -fPIE -pie
// ADDED: refused tls-layout
// SWAP: refused tls-layout
// INIT: refused tls-layout
// NEAR: patchable count
#ifdef SWAP
static __thread int b, a;
#else
static __thread int a, b;
#endif
#ifdef ADDED
static __thread int c;
#endif
#ifdef INIT
__thread int d = 4;
#else
__thread int d = 3;
#endif
__attribute__((noipa)) int count(int x) {
#ifdef NEAR
  a += x; b ^= 2 * x; if (x == 8) return 2;
#else
  a += x; b ^= x;
#endif
#ifdef ADDED
  c++;
#endif
  return a + d;
}
__attribute__((noipa)) int get(void) { return b * 3 - a; }
int main(void) { return count(1) + get(); }
