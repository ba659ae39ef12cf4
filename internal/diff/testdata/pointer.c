// cc: gcc -O2 -fPIC -shared -Wl,-z,lazy
// TAKEN: patchable same
// A function that the baseline only calls, and whose address the fixed build
// compares: the slot of a call may not be bound yet.
#include <string.h>
typedef unsigned long length(const char *);
extern length strlen;
long size(const char *s) { return strlen(s) + 1; }
int same(length *f) {
#ifdef TAKEN
  if (f == strlen) return 2;
#endif
  return f == 0;
}
