// cc: clang -O2 -fPIC -shared
// TEXT: refused constant-data-changed
// NEAR: patchable other
// A table of offsets to texts: it stays, and one text changes in place.
static const char *const names[] = {"ab", "cd",
#ifdef TEXT
  "eg",
#else
  "ef",
#endif
  "xyz", "more"};
__attribute__((noinline)) const char *name(unsigned i) {
  return names[i % 5];
}
#ifdef NEAR
int other(int i) { return i < 0 ? 0 : i * 7 % 1000 + 1; }
#else
int other(int i) { return i * 7 % 1000 + 1; }
#endif
