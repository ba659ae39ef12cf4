// cc: gcc -O2 -fPIC -shared
// FLOAT: refused data-layout
// THREAD: refused data-layout
// POINTER: refused data-layout
// BEHIND: refused data-layout
// GROWN: refused data-layout
// BESIDE: patchable rest
// Variables of another type, an array that became a pointer, a table of bytes that moved, and an array that grew.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef FLOAT
static float level;
#else
static int level;
#endif
#ifdef THREAD
static __thread float depth;
#else
static __thread int depth;
#endif
struct s {
  struct s *next;
#ifdef POINTER
  char *name;
#else
  char name[8];
#endif
  int id, most;
#ifdef BEHIND
  int least;
#endif
  char text[20];
};
#ifdef GROWN
#define SLOTS 16
#else
#define SLOTS 8
#endif
static struct { int used; char name[12]; } slots[SLOTS];
static int last;
static char rest_of_it[64];
void raise(int by) { level += by; }
int raised(void) { return level * 3; }
int down(int by) { depth += by; return depth; }
void show(struct s *s) { printf("%s %d\n", s->name, s->id); }
int print(struct s *s) {
#ifdef BEHIND
  if (s->id < s->least) return -1;
#endif
  s->id++;
  puts(s->text);
  return s->id;
}
int add(const char *name) {
  if (last >= SLOTS) return -1;
  strncpy(slots[last].name, name, 11);
  slots[last].used = 1;
  return last++;
}
int count(void) {
  int k = 0;
  for (int i = 0; i < SLOTS; i++) k += slots[i].used;
  return k;
}
int rest(const char *s) {
#ifdef BESIDE
  if (!s) return -1;
#endif
  strncpy(rest_of_it, s, 63);
  return 0;
}
