// cc: gcc -O2 -fno-pie -no-pie
// FIX: refused not-position-independent
#include <stdio.h>
int main(void) {
#ifdef FIX
  puts("b");
#else
  puts("a");
#endif
  return 0;
}
