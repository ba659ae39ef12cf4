// cc: gcc -O2 -fPIE -pie
// FIX: patchable work
#include <stdio.h>
extern int absent(int) __attribute__((weak));
extern char __bss_start[], _end[], _edata[];
static int state[20], n;
__attribute__((noipa)) int work(int x) {
#ifdef FIX
  if (x < 0) return 0;
#endif
  if (absent) x += absent(x);
  state[x % 20] += x;
  n++;
  return x + (int)(_end - __bss_start);
}
int main(int argc, char **argv) { printf("%d %p\n", work(argc), (void *)_edata); return state[0] + n; }
