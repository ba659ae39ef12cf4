// cc: gcc -O2 -fPIE -pie
// FIX: patchable parse
#include <stdio.h>
#include <stdlib.h>
static int n;
__attribute__((noinline)) int parse(const char *s) {
#ifdef FIX
  if (!s) abort();
#endif
  n++;
  return atoi(s);
}
int main(int argc, char **argv) { printf("%d\n", parse(argv[argc - 1])); return n; }
