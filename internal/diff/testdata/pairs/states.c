// cc: gcc -O2 -fPIC -shared
// INSERTED: refused live-value-changed
// MERGED: refused live-value-changed
// STATIC: refused live-value-changed
// COMPUTED: refused live-value-changed
// HANDED: refused live-value-changed
// RESUMED: refused live-value-changed
// OTHER: patchable running
// APPENDED: patchable running
// Numbers that live objects hold, of an enumeration that got a name in its middle: the new number of one is the old one
// of the next.
#include <stdio.h>
#include <stdlib.h>
struct s { struct s *next; int state, kind, prio, ref; int how, hand, step; long sum; };
static struct s *head;
static int mode, total;
#ifdef INSERTED
enum { RUN = 2, DEAD = 3 };
#else
enum { RUN = 1, DEAD = 2 };
#endif
#ifdef MERGED
enum { OPEN = 2, SHUT = 3 };
#else
enum { OPEN = 1, SHUT = 2 };
#endif
#ifdef STATIC
enum { ON = 2, OFF = 3 };
#else
enum { ON = 1, OFF = 2 };
#endif
#ifdef COMPUTED
enum { SOFT = 2, HARD = 3 };
#else
enum { SOFT = 1, HARD = 2 };
#endif
#ifdef HANDED
enum { LEFT = 2, RIGHT = 3 };
#else
enum { LEFT = 1, RIGHT = 2 };
#endif
#ifdef RESUMED
enum { FIRST, CHECK, SECOND, THIRD, LAST };
#else
enum { FIRST, SECOND, THIRD, LAST };
#endif
int create(long x) {
  struct s *o = malloc(sizeof *o);
  o->sum = x * 77;
  puts("create");
  o->state = RUN;
  o->next = head;
  head = o;
  return 0;
}
void all(struct s *o) {
  o->kind = OPEN;
  o->prio = 7;
  o->ref = 8;
}
void start(void) { printf("start\n"); mode = ON; }
void stop(void) { printf("stop\n"); mode = OFF; }
void soften(struct s *o, const char *t) { o->how = *t == 'x' ? HARD : SOFT; }
__attribute__((noipa)) void hand(struct s *o, int h) { printf("hand\n"); o->hand = h; }
void both(struct s *o) { hand(o, LEFT); o->sum++; }
void other(struct s *o) { o->sum *= 3; hand(o, RIGHT); }
int handed(struct s *o) {
  if (o->hand == LEFT) return total * 3;
  if (o->hand == RIGHT) printf("right\n");
  return 0;
}
int running(void) {
  int k = 0;
  for (struct s *o = head; o; o = o->next) {
#ifdef OTHER
    if (o->state == DEAD) k++;
#else
    if (o->state == RUN) k++;
#endif
    else if (o->state == 77) printf("dead\n");
#ifdef APPENDED
    else if (o->state == 9) printf("late\n");
#endif
  }
  return k;
}
int dead(struct s *o) { return o->state == DEAD ? total : 0; }
int open(struct s *o) { if (o->kind == OPEN) return total; if (o->kind == SHUT) printf("shut\n"); return 4; }
int work(int x) { if (mode == ON) return total += x; if (mode == OFF) return -1; return 0; }
int soft(struct s *o) { if (o->how == SOFT) return total + 5; if (o->how == HARD) printf("hard\n"); return 2; }
int resume(struct s *o) {
  switch (o->step) {
  case FIRST: printf("first\n"); o->step = SECOND; break;
  case SECOND: printf("second %d\n", total); o->step = THIRD; break;
  case THIRD: puts("third"); o->step = LAST; break;
  case LAST: printf("last %ld\n", o->sum); o->step = FIRST; break;
#ifdef RESUMED
  case CHECK: puts("check"); o->step = SECOND; break;
#endif
  }
  return o->step;
}
