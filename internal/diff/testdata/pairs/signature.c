// cc: gcc -O2 -fPIC -shared
// EXPORTED: refused signature-changed
// RETURNED: refused signature-changed
// FLOAT: refused signature-changed
// ORDER: refused signature-changed
// NEAR: patchable parse
// INTERNAL: patchable outer inner
// Functions whose parameters changed: code outside the module calls as before.
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noipa))
#endif
extern int work(const char *, int);
APART int parse(const char *s, int n
#ifdef EXPORTED
  , int flags
#endif
) {
#ifdef EXPORTED
  if (flags & 4) return -1;
#endif
#ifdef NEAR
  if (n < 0) return -1;
#endif
  return work(s, n * 3);
}
int both(const char *s, int n) {
#ifdef EXPORTED
  return parse(s, n, 2) + 1;
#else
  return parse(s, n) + 1;
#endif
}
struct pair { long a, b, c; };
#ifdef RETURNED
struct pair half(long n) {
  struct pair p = {n / 2, n & 1, 4};
  return p;
}
#else
long half(long n) { return n / 2; }
#endif
__attribute__((noinline)) static int inner(int n
#ifdef INTERNAL
  , int m
#endif
) {
#ifdef INTERNAL
  if (m > 4) return work("m", m);
#endif
  return work("inner", n) + work("again", n);
}
int outer(int n) {
#ifdef INTERNAL
  return inner(n, n + 1) * 2;
#else
  return inner(n) * 2;
#endif
}

#ifdef FLOAT
double scale(double x, double k) { return x * k + work("scale", 1); }
#else
float scale(float x, float k) { return x * k + work("scale", 1); }
#endif
#ifdef ORDER
int copy(int n, const char *s) {
#else
int copy(const char *s, int n) {
#endif
  if (n > 60) return -1;
  return work(s, n * 5) + s[n];
}
