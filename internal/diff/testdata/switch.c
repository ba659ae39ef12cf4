// cc: gcc -O2 -fPIC -shared
// ORDER: patchable name
// CASE: patchable name
// JUMP: patchable run
#include <stdio.h>
#include <stdlib.h>
extern void a(int), b(int), c(int), d(int);
void run(int op, int x) {
  switch (op) {
#ifdef JUMP
  case 0: b(x); puts("x"); break;
  case 1: a(x + 1); puts("y"); break;
#else
  case 0: a(x + 1); puts("y"); break;
  case 1: b(x); puts("x"); break;
#endif
  case 2: c(x * 3); a(1); break;
  case 3: d(x); d(x); break;
  case 4: a(x); b(4); break;
  case 5: b(x ^ 5); c(4); break;
  case 6: c(x - 9); d(12); break;
  }
}
const char *name(int op) {
  switch (op) {
  case 0: a(1); return "zero";
#ifdef ORDER
  case 2: b(2); return "one";
  case 1: c(3); return "two";
#else
  case 1: b(2); return "one";
  case 2: c(3); return "two";
#endif
  case 3: d(4); return "three";
  case 4: a(6); return "four";
#ifdef CASE
  case 6:
#endif
  case 5: b(7); return "five";
  }
  return "many";
}
int plain(int x) { return x + 3; }
