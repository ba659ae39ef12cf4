// cc: gcc -O2 -fPIC -shared -fno-omit-frame-pointer
// LOCALS: patchable mix
// FIELDS: refused data-layout
// The second byte of rcx has the number of rbp where it is an operand of its
// own. What lies in the frame may change places, what lies behind a pointer not.
struct pair { long a, b, sum; };
__attribute__((noipa)) long mix(struct pair *p, long n) {
#ifdef LOCALS
  volatile long second, first;
#else
  volatile long first, second;
#endif
  first = 0;
  __asm__ volatile("andb $0xfd, %%ch" : "+c"(n) : : "memory");
#ifdef FIELDS
  first = p->b + n;
  second = p->a ^ n;
#else
  first = p->a + n;
  second = p->b ^ n;
#endif
  return first * 3 + second;
}
__attribute__((noipa)) long other(struct pair *p) { return p->a - p->sum; }
