// cc: g++ -O2 -fPIC -shared
// NUMBER: refused constructor-changed
// ANOTHER: refused constructor-changed
// CALL: refused constructor-changed
// LISTED: refused constructor-changed
// THREAD: refused tls-layout
// NEAR: patchable _Z3useii
// ONCE: refused constructor-changed
// BESIDE: patchable _Z5readyv
// What is made the first time that it is used.
#include <pthread.h>
struct limit {
  int most, least;
  limit(int m, int l);
  ~limit();
  bool holds(int) const;
};
extern int ask(int);
static int table[40];
static pthread_once_t once = PTHREAD_ONCE_INIT;
int use(int v, int w) {
#if defined NUMBER || defined ANOTHER
  static limit l(10, 2);
#elif defined CALL
  static limit l(ask(12), 2);
#else
  static limit l(12, 2);
#endif
#ifdef ANOTHER
  static limit second(100, 1);
  if (!second.holds(v)) return -1;
#endif
#ifdef NEAR
  if (v > 1000) return -1;
#endif
  return l.holds(v) ? v : w;
}
static void fill() {
  for (int i = 0; i < 40; i++)
#ifdef ONCE
    table[i] = ask(i + 1);
#else
    table[i] = ask(i);
#endif
}
int ready() {
#ifdef BESIDE
  if (ask(3) > 100) return 0;
#endif
  pthread_once(&once, fill);
  return table[3];
}

struct pair { long name; int value; };
struct list {
  list(const pair *, unsigned long);
  int find(long) const;
};
int find(long name) {
#ifdef LISTED
  static list l((const pair[]){{1, 1}, {2, 3}}, 2);
#else
  static list l((const pair[]){{1, 1}, {2, 2}}, 2);
#endif
  return l.find(name);
}

#ifdef THREAD
static thread_local limit own(30, 2);
#else
static thread_local limit own(20, 2);
#endif
bool mine(int v) { return own.holds(v); }
