/* The library below: its fixed build exports one function more. */
#include "live.h"
__attribute__((visibility("default"), noipa)) int lower(int x) { return x * getpagesize() / 4096 + IF_FIXED(20, 10); }
#ifdef FIXED
__attribute__((visibility("default"), noipa)) int lower_checked(int x) { return lower(x) + 5000; }
#endif
