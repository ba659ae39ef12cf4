// cc: gcc -O2 -fPIC -shared
// RENUMBER: refused live-value-changed
// FLAG: refused live-value-changed
// CASES: refused live-value-changed
// NEWVALUE: patchable stop
// STRICTER: patchable flagged
// CASE: patchable act
// Numbers that live objects hold: an enum or a flag that means another one now.
extern void a(int), b(int), c(int), d(int), e(int), f(int), g(int);
#ifdef RENUMBER
enum { IDLE, PAUSED, RUNNING, STOPPED };
#else
enum { IDLE, RUNNING, STOPPED, PAUSED };
#endif
#ifdef FLAG
enum { READ = 16, WRITE = 8 };
#else
enum { READ = 8, WRITE = 16 };
#endif
struct s { int state, flags; long op, n; };
void start(struct s *s) { s->state = RUNNING; }
int running(struct s *s) { return s->state == RUNNING ? 5 : 9; }
void stop(struct s *s) {
#ifdef NEWVALUE
  s->state = PAUSED;
#else
  s->state = STOPPED;
#endif
}
void mark(struct s *s) { s->flags |= READ; }
int flagged(struct s *s) {
#ifdef STRICTER
  return s->flags & (READ | WRITE) ? 4 : 6;
#else
  return s->flags & READ ? 4 : 6;
#endif
}
void act(struct s *s) {
  switch (s->op) {
  case 0: a(1); b(9); break;
#ifdef CASES
  case 1: g(4); a(3); break;
  case 2: b(2); c(8); break;
  case 3: c(3); d(7); break;
  case 4: d(4); e(6); break;
  case 5: e(5); f(5); break;
  case 6: f(6); g(4); break;
#else
  case 1: b(2); c(8); break;
  case 2: c(3); d(7); break;
  case 3: d(4); e(6); break;
  case 4: e(5); f(5); break;
  case 5: f(6); g(4); break;
#endif
#ifdef CASE
  case 7: g(4); a(3); break;
#endif
  }
}
