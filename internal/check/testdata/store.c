// cc: gcc -O2 -fPIE -pie
// BOUND: patchable put
// SEVERAL: patchable put get name
// IMPORT: patchable report
// VARIABLE: patchable put +counted
// THREAD: patchable touch
// TEXT: patchable report
// A store of keys with what the checks look at: variables side by side, texts,
// tables, pointers to functions, thread-local counters, calls among its own.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define OWN __attribute__((noipa))
struct slot { long key; char *value; };
static struct slot slots[16];
static long used, limit = 12, first = 3, second = 5;
static const int weights[8] = {3, 1, 4, 1, 5, 9, 2, 6};
static const int offsets[8] = {2, 7, 1, 8, 2, 8, 1, 8};
static __thread long touched, missed;
static int compare(const void *a, const void *b) { return *(const long *)a > *(const long *)b; }
static int reverse(const void *a, const void *b) { return *(const long *)a < *(const long *)b; }
static int (*order[])(const void *, const void *) = {compare, reverse};
OWN long touch(long n) {
#ifdef THREAD
  if (n < 0) return missed;
#endif
  touched += n;
  missed -= n;
  return touched;
}
#ifdef VARIABLE
static long seen = 7, again = 9;
OWN long counted(long n) { return seen += n + again++; }
#endif
OWN long weigh(unsigned i) { return weights[i % 8] + limit; }
OWN long shift(unsigned i) { return offsets[i % 8] * second + first; }
OWN int put(long key, const char *value) {
#if defined BOUND || defined SEVERAL || defined VARIABLE
  if (used >= limit) return -1;
#endif
#ifdef VARIABLE
  counted(key);
#endif
  slots[used & 15].key = key;
  slots[used & 15].value = strdup(value);
  first += weigh(key);
  touch(1);
  return used++;
}
OWN const char *get(long key) {
#ifdef SEVERAL
  if (key == 0) return "nothing";
#endif
  for (long i = 0; i < used; i++)
    if (slots[i].key == key) return slots[i].value;
  second += shift(key);
  return NULL;
}
OWN void sort(int how) { qsort(slots, used, sizeof *slots, order[how & 1]); }
OWN void sorted(void) { qsort(slots, used, sizeof *slots, reverse); }
OWN const char *name(int n) {
  switch (n) {
  case 0: return "none";
  case 1: put(1, "one"); return "one";
  case 2: return get(2);
#ifdef SEVERAL
  case 3: put(4, "three"); return "three";
#else
  case 3: put(3, "three"); return "three";
#endif
  case 4: sort(1); return "four";
  case 5: return getenv("FIVE");
  case 6: puts("six"); return "six";
  }
  return "many";
}
OWN void report(FILE *f) {
#ifdef IMPORT
  fprintf(f, "%ld at %ld\n", used, (long)time(NULL));
  if (used < 0) perror("used");
#elif defined TEXT
  fprintf(f, "%ld of %ld used\n", used, limit);
#else
  fprintf(f, "%ld used\n", used);
#endif
  for (int i = 0; i < 7; i++) fprintf(f, "%s %ld %ld\n", name(i), weigh(i), shift(i));
}
int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) put(i, argv[i]);
  sort(argc);
  sorted();
  report(stdout);
  return get(argc) != NULL;
}
