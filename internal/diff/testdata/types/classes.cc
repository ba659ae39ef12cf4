// cc: g++ -O2 -fPIC -shared -g
// BASE: refused data-layout
// MEMBER: refused data-layout
// INSTANCE: refused data-layout
// NEAR: patchable _Z3fixR7Derived
// OUTSIDE: patchable _Z3fixR7Derived
// Classes that a changed function can reach.
extern int work(long);
struct Base {
  long id;
#ifdef BASE
  long more;
#endif
  short kind;
};
namespace inner {
template <class T> struct Box {
#ifdef INSTANCE
  T first, value;
#else
  T value;
#endif
};
}
namespace outside {
struct Box {
  int x;
#ifdef OUTSIDE
  int y;
#endif
};
}
class Derived : public Base {
 public:
  int a;
#ifdef MEMBER
  long b;
#else
  int b;
#endif
  inner::Box<short> box;
  static int shared;
};
int fix(Derived &d) {
#if defined BASE || defined MEMBER || defined INSTANCE || defined NEAR || defined OUTSIDE
  if (&d == nullptr || work(3) > 4) return 1;
#endif
  return work(d.kind + d.box.value);
}
int keep(outside::Box &b) { return work(b.x); }
