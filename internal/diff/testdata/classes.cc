// cc: g++ -O2 -fPIC -shared
// CATCH: patchable _Z5guardi
// THROW: patchable _Z5checki
// VIRTUAL: patchable _ZNK6Circle4areaEv
// TYPE: patchable _Z4nameB5cxx11P5Shape
// METHOD: refused data-layout
// NEWCLASS: patchable _Z4makei +_ZN8TriangleD0Ev +_ZN8TriangleD1Ev +_ZNK8Triangle4areaEv
// TEMPLATE: patchable _Z3sumRKSt6vectorIiSaIiEE
// COLD: patchable _Z4coldi
#include <stdexcept>
#include <string>
#include <vector>
#include <cstdio>
struct Shape { virtual ~Shape() {} virtual double area() const = 0;
#ifdef METHOD
  virtual double length() const { return 0; }
#endif
};
struct Circle : Shape { double r = 1; double area() const override;  };
double Circle::area() const {
#ifdef VIRTUAL
  if (r < 0) return 0;
#endif
  return r * r * 3.14;
}
struct Square : Shape { double r = 2; double area() const override; };
double Square::area() const { return r * r; }
#ifdef NEWCLASS
struct Triangle : Shape { double r = 3; double area() const override; };
double Triangle::area() const { return r * r / 2; }
#endif
Shape *make(int k) {
#ifdef NEWCLASS
  if (k == 7) return new Triangle;
#endif
  if (k) return new Circle;
  return new Square;
}
extern void log(const char *);
int check(int x) {
#ifdef THROW
  if (x > 11) throw std::runtime_error("too much");
#else
  if (x > 12) throw std::runtime_error("too much");
#endif
  return x;
}
int guard(int x) {
  try { return check(x) + check(x + 1); }
#ifdef CATCH
  catch (const std::logic_error &e) { log(e.what()); return -1; }
#else
  catch (const std::runtime_error &e) { log(e.what()); return -1; }
#endif
}
int guard2(int x) {
  try { log("guard"); } catch (const std::logic_error &e) { log(e.what()); return -1; } catch (int) { return 3; } catch (const std::runtime_error &) { return 4; }
  return x;
}
std::string name(Shape *s) {
#ifdef TYPE
  if (dynamic_cast<Circle *>(s)) return "circle";
#else
  if (dynamic_cast<Square *>(s)) return "circle";
#endif
  return dynamic_cast<Square *>(s) || dynamic_cast<Circle *>(s) ? "square" : "none";
}
int sum(const std::vector<int> &v) {
  int n = 0;
  for (int x : v) n += x;
#ifdef TEMPLATE
  if (v.size() > 1000) throw std::length_error("sum");
#endif
  return n;
}
std::vector<int> numbers(int n) { std::vector<int> v; for (int i = 0; i < n; i++) v.push_back(i); return v; }
std::vector<long> longs(int n) { std::vector<long> v; for (int i = 0; i < n; i++) v.push_back(i); return v; }
[[gnu::cold, gnu::noinline]] static void complain(int x) { std::printf("%d\n", x); log("complain"); }
int cold(int x) {
#ifdef COLD
  if (__builtin_expect(x > 6, 0)) { complain(x); complain(x + 1); throw std::out_of_range("cold"); }
#else
  if (__builtin_expect(x > 5, 0)) { complain(x); complain(x + 1); throw std::out_of_range("cold"); }
#endif
  return x * 2;
}
