// cc: gcc -O2 -fPIC -no-pie -fuse-ld=lld -Wl,--emit-relocs
// FIX: patchable change
// lld makes addresses of loads from the GOT and leaves them the relocation of
// the load.
__attribute__((visibility("default"))) int some[64], x, y;
#ifdef FIX
int before[32] = {1, 2, 3};
#endif
#define OWN __attribute__((noipa))
OWN int same(int *p) { return p == &x; }
OWN long bits(long n) { return n & (long)&y; }
OWN int *where(void) { return &x; }
OWN int change(int *p) {
#ifdef FIX
  if (p == &some[3]) return before[1];
#endif
  return p == &y;
}
int main(int argc, char **argv) { return same(&y) + (int)bits(argc) + *where() + change(&some[argc]); }
