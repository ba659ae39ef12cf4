// cc: gcc -O2 -fPIC -shared
// INTERIOR: patchable sum pick big named others zeros
// DIRECT: patchable first last sum pick big named others zeros
// STRUCT: patchable named big others zeros
// GROWN: patchable big others zeros
// ZEROS: patchable zeros others
// LITERAL: patchable greet
// Where a table changed, code that reads one before it comes along: stripped
// code does not say where a table ends.
#include <string.h>
#define HIDDEN __attribute__((visibility("hidden")))
extern long use(const void *, long);
#ifdef INTERIOR
#define T9 1900
#else
#define T9 900
#endif
#ifdef DIRECT
#define T0 8
#else
#define T0 1
#endif
HIDDEN const int volatile_table[16] = {T0, 2, 3, 4, 5, 6, 7, 8, 9, T9, 11, 12, 13, 14, 15, T0};
HIDDEN extern const int volatile_table[16];
__attribute__((noipa)) const int *self(const int *p) { return p; }
long sum(void) { return use(volatile_table, 16); }
long pick(int i) { return use(volatile_table + 8, i); }
int first(void) { return *(volatile const int *)&volatile_table[0]; }
int last(void) { return *(volatile const int *)&volatile_table[15]; }
struct named { char name[8]; int value; };
#ifdef STRUCT
HIDDEN const struct named entry = {"abc", 3};
#else
HIDDEN const struct named entry = {"abc", 2};
#endif
const char *plain(void) { return "abc"; }
long named(void) { return use(&entry, 3); }
#ifdef GROWN
HIDDEN const unsigned char wide[5000] = {1, 2, 3, [4500] = 7};
#else
HIDDEN const unsigned char wide[300] = {1, 2, 3, [250] = 7};
#endif
long big(long i) { return use(wide, i < sizeof wide ? i : 0); }
#ifdef ZEROS
HIDDEN const unsigned char narrow[600] = {1, 2, 3};
#else
HIDDEN const unsigned char narrow[100] = {1, 2, 3};
#endif
HIDDEN const unsigned char other[100] = {9, 2, 3};
long zeros(long i) { return use(narrow, i < sizeof narrow ? i : 0); }
long others(long i) { return use(other, i < sizeof other ? i : 0); }
#ifdef LITERAL
HIDDEN const struct named literal = {"xyz", 5};
#endif
const char *xyz(void) { return "xyz"; }
long greet(long i) {
#ifdef LITERAL
  use(&literal, 1);
#endif
  return use("greet", i);
}
