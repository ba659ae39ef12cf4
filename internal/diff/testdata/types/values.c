// cc: gcc -O2 -fPIC -shared -g
// RENUMBER: refused live-value-changed
// MOVED: refused live-value-changed
// COUNT: patchable fix
// BEHIND: patchable fix
// PARAMETER: refused signature-changed
// RESULT: refused signature-changed
// INTERNAL: patchable fix
// Values of enums, and parameters of functions.
extern int work(long);
enum state {
  IDLE,
#ifdef RENUMBER
  NEW,
#endif
  READY, DONE,
#ifdef COUNT
  LATE,
#endif
  STATES
};
enum flag {
  A = 1, B = 2,
#ifdef MOVED
  C = 8,
#else
  C = 4,
#endif
#ifdef BEHIND
  D = 16
#endif
};
struct s { enum state state; enum flag flag; };
#ifdef RESULT
long
#else
int
#endif
fix(struct s *s,
#ifdef PARAMETER
  long n
#else
  int n
#endif
) {
#if defined RENUMBER || defined MOVED || defined COUNT || defined BEHIND || defined PARAMETER || defined RESULT || defined INTERNAL
  if (n < 4) return 1;
#endif
  return work(n) + s->flag;
}
