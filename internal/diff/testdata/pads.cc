// cc: g++ -O2 -fPIC -shared -fno-omit-frame-pointer
// LOCALS: patchable _Z5guardP4pairl
// Where an exception is caught, the frame is still found by rbp.
struct pair { long a, b, sum; };
extern long risk(long);
__attribute__((noipa)) long guard(pair *p, long n) {
#ifdef LOCALS
  volatile long second, first;
#else
  volatile long first, second;
#endif
  try {
    first = risk(n);
    second = risk(first);
  } catch (long e) {
    first = p->a + e;
    second = p->b ^ n;
    return first * 3 + second;
  }
  return first - second;
}
