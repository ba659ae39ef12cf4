// cc: g++ -O2 -fPIC -shared
// GLOBAL: refused constructor-changed
// VALUE: refused constructor-changed
// NEAR: patchable _Z3addRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE
// Objects that are made when the module is loaded.
#include <string>
#include <vector>
extern int ask(int);
#ifdef VALUE
static int asked = ask(4);
#else
static int asked = ask(3);
#endif
#ifdef GLOBAL
static std::vector<std::string> names = {"a", "c"};
#else
static std::vector<std::string> names = {"a", "b"};
#endif
int add(const std::string &s) {
#ifdef NEAR
  if (s.size() > 100) return -1;
#else
  if (s.size() > 1000) return -1;
#endif
  names.push_back(s);
  return asked++;
}
