// cc: gcc -O2 -fPIC -shared
// LARGER: refused data-layout
// INSERTED: refused live-value-changed
// ZEROED: patchable fresh
// STRICT: patchable fill
// ASKS: patchable make
// TABLE: refused data-layout
// What exists already has the old room, or holds the old number.
#include <stdlib.h>
#include <string.h>
extern void *get(unsigned long);
extern void note(int);
#ifdef LARGER
#define ROOM 64
#else
#define ROOM 32
#endif
#ifdef STRICT
#define MOST 15
#else
#define MOST (ROOM - 1)
#endif
#ifdef ASKS
#define WANTED 48
#else
#define WANTED ROOM
#endif
enum {
  IDLE,
#ifdef INSERTED
  CHECKED,
#endif
  OPEN
};
struct s { int state, id; char *text; };
void make(struct s *s, int id) { note(id); s->id = id; s->text = get(WANTED); }
unsigned long fill(struct s *s, const char *from) {
  unsigned long n = strlen(from);
  if (n > MOST) n = MOST;
  memcpy(s->text, from, n);
  s->text[n] = 0;
  return n;
}
void begin(struct s *s) { note(3); s->state = OPEN; }
const char *name(struct s *s) {
  note(s->id);
#ifdef INSERTED
  if (s->state == CHECKED) return "checked";
#endif
  if (s->state == IDLE) return "idle";
  return s->state == OPEN ? "open" : "?";
}
#ifdef TABLE
static const unsigned sizes[4] = {8, 64, 128, 256};
#else
static const unsigned sizes[4] = {8, 16, 32, 64};
#endif
char *sized(unsigned class) { return malloc(sizes[class & 3]); }

struct node { struct node *next; long v[6]; };
struct node *fresh(void) {
#ifdef ZEROED
  struct node *n = calloc(1, sizeof *n);
#else
  struct node *n = malloc(sizeof *n);
#endif
  if (n) note(7);
  return n;
}
