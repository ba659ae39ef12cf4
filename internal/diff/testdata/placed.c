// cc: gcc -O2 -fno-pie -no-pie -Wl,--emit-relocs
// NUMBER: patchable number
// TEXT: patchable text
// TABLE: patchable call
// SWITCH: patchable choose
// BIASED: patchable before
// VARIABLE: patchable count
// CONSTANT: patchable weight call
// ADDED: patchable call +third
// BOTH: patchable keep
// GREW: refused data-layout
// VALUE: refused initial-value-changed
// A program at a fixed address that keeps its relocations: addresses in
// immediates, in displacements with and without an index, in constants.
#include <stdio.h>
#include <string.h>
#define OWN __attribute__((noipa))
struct item { int id, count; const char *name;
#ifdef GREW
  long more;
#endif
};
static struct item items[8] = {{1, 2, "one"}, {3, 4, "two"},
#ifdef VALUE
  {5, 7, "three"},
#else
  {5, 6, "three"},
#endif
};
static int numbers[16], other[4] = {1, 2, 3, 4};
static const int weights[8] = {3, 1, 4, 1, 5, 9,
#ifdef CONSTANT
  7,
#else
  2,
#endif
  6};
OWN int first(int n) { return n + 1; }
OWN int second(int n) { return n * 2; }
#ifdef ADDED
OWN int third(int n) { return n - numbers[n & 15]; }
#endif
static int (*const table[])(int) = {
#ifdef TABLE
  second, first,
#else
  first, second,
#endif
  (int (*)(int))puts == 0 ? first : second };
OWN int call(unsigned n) {
#ifdef ADDED
  if (n > 9) return third(n) + (table[n % 3] == third);
#endif
  return table[n % 3](n);
}
OWN int number(int n) {
#ifdef NUMBER
  return n + 0x404041;
#else
  return n + 0x404040;
#endif
}
OWN const char *text(int n) {
#ifdef TEXT
  return n > 3 ? "much more than that" : items[n & 7].name;
#else
  return n > 3 ? "more" : items[n & 7].name;
#endif
}
OWN int choose(int n) {
  switch (n) {
  case 0: return number(2);
  case 1: return first(n);
  case 2: return second(n) + other[n];
  case 3: return puts("three");
  case 4: return items[n].id;
#ifdef SWITCH
  case 5: return items[n].count + 1;
#else
  case 5: return items[n].count;
#endif
  case 6: return printf("%d", n);
  }
  return 0;
}
OWN int before(int n) {
#ifdef BIASED
  if (n < 1 || n > 4) return 0;
#endif
  return other[n - 1] + numbers[n + 3];
}
#ifdef VARIABLE
static int seen;
#endif
OWN int count(int n) {
#ifdef VARIABLE
  numbers[n & 15] += seen += n;
#endif
  return ++numbers[n & 15];
}
OWN int weight(unsigned n) { return weights[n % 8]; }
OWN void keep(int n) { // an address in the immediate and one in the displacement
#ifdef BOTH
  if (n > 7) n = 0;
#endif
  items[n].name = "kept";
}
int main(int argc, char **argv) {
  keep(argc);
  return call(argc) + number(argc) + strlen(text(argc)) + choose(argc) + before(argc) + count(argc) + weight(argc);
}
