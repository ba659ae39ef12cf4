// cc: g++ -O2 -fPIC -shared
// CATCH: patchable _Z5guardi _Z4bothi
// THROW: patchable _Z5checki
// NEW: patchable _Z5checki +_Z6fitteri
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>
#define OWN __attribute__((noipa))
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};
static std::vector<int> kept;
static int errors, others;
#ifdef NEW
OWN int fitter(int n) { return n > 50 ? n - errors : n; }
#endif
OWN int check(int n) {
#ifdef THROW
  if (n == 13) throw fault("unlucky");
#endif
#ifdef NEW
  n = fitter(n);
#endif
  if (n < 0) throw fault("negative " + std::to_string(n));
  if (n > 100) throw std::length_error("large");
  return n * 2;
}
OWN int guard(int n) {
  try {
#ifdef CATCH
    if (n == 7) return -7;
#endif
    return check(n);
  } catch (const fault &f) {
    errors++;
    return std::puts(f.what());
  } catch (const std::exception &) {
    others++;
    return -1;
  } catch (...) {
    return -2;
  }
}
OWN int both(int n) {
  std::string s = "x" + std::to_string(n);
  try {
    kept.push_back(guard(n));
#ifdef CATCH
    if (n < -100) kept.clear();
#endif
    return check(n - 1) + (int)s.size();
  } catch (const std::length_error &) {
    return (int)kept.size();
  }
}
int run(int n) { return guard(n) + both(n); }
