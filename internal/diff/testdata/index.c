// cc: gcc -O2 -fPIC -shared
// FIX: patchable run
// A switch over the upper half of a number, whose whole is compared.
extern void a(int), b(int), c(int), d(int);
void run(const unsigned *p, int x) {
  unsigned op = *p;
#ifdef FIX
  if (x < 0) return;
#endif
  switch (op >> 8) {
  case 0: a(x + 1); break;
  case 1: b(x); c(1); break;
  case 2: c(x * 3); a(1); break;
  case 3: d(x); d(x); break;
  case 4: a(x); b(4); break;
  case 5: b(x ^ 5); c(4); break;
  case 6: c(x - 9); d(12); break;
  case 7: d(x - 19); a(12); break;
  default: a(op & 0xff); break;
  }
}
