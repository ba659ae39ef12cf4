// cc: g++ -O2 -fPIC -shared -fvisibility=hidden
// THROWN: patchable _Z5checki +_ZN7RefusedD0Ev +_ZN7RefusedD1Ev
// CAUGHT: patchable _Z3usei
// MADE: patchable _Z4makei +_ZN6SquareD0Ev +_ZN6SquareD1Ev +_ZNK6Square4areaEv
// CHANGED: refused constant-data-changed
#include <stdexcept>
#include <typeinfo>
#define API __attribute__((visibility("default"), noinline))
struct Shape {
  virtual ~Shape() {}
  virtual int area() const { return 1; }
#ifdef CHANGED
  virtual int sides() const { return 9; }
#endif
};
struct Round : Shape {
  int area() const override { return 3; }
};
#ifdef MADE
struct Square : Shape {
  int area() const override { return 4; }
};
#endif
struct Other : std::exception {
  const char *what() const noexcept override { return "other"; }
};
#ifdef THROWN
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};
#else
typedef std::runtime_error Refused;
#endif
#ifdef CAUGHT
#define CATCH catch (const std::logic_error &e) { return 7; }
#else
#define CATCH
#endif
API int check(int x) {
  if (x > 3)
    throw Refused("no");
  return x + 1;
}
API int use(int x) {
  try {
    return check(x) * 2;
  } CATCH catch (const std::exception &e) {
    return e.what()[0];
  }
}
API int other(int x) {
  try {
    if (x == 5)
      throw Other();
    return check(x) * 3;
  } catch (const Other &e) {
    return e.what()[1];
  }
}
API Shape *make(int x) {
#ifdef MADE
  if (x == 4)
    return new Square;
#endif
  if (x == 3)
    return new Round;
  return new Shape;
}
API bool round(Shape *s) { return dynamic_cast<Round *>(s) != nullptr; }
API const char *name(Shape *s) { return typeid(*s).name(); }
API int area(Shape *s) {
#ifdef CHANGED
  return s->area() * s->sides();
#else
  return s->area();
#endif
}
