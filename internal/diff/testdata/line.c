// cc: gcc -O2 -fPIC -shared
// LINES: unchanged
// LINES_AND_FIX: patchable second
// LINES_AND_DELTA: patchable second
// LINES_AND_ALONE: patchable fourth
// FOURTH: patchable fourth
#include <stdlib.h>
extern void report(const char *file, int line, int level);
extern void note(int level, const char *file, int line);
#ifdef LINES_AND_FIX
#define LEVEL 11
#elif defined LINES_AND_DELTA
#define LEVEL 8
#else
#define LEVEL 5
#endif
#if defined LINES_AND_ALONE || defined FOURTH
#define COUNT 28
#else
#define COUNT 25
#endif
#if defined LINES || defined LINES_AND_FIX || defined LINES_AND_DELTA || defined LINES_AND_ALONE
#line 103 "line.c"
#else
#line 100 "line.c"
#endif
int first(int x) { if (x > 4) report(__FILE__, __LINE__, 3); return x + 1; }
int second(int x) { if (x > 6) note(LEVEL, __FILE__, __LINE__); return x * 3; }
int third(int x) { if (x > 8) report(__FILE__, __LINE__, 3); return x - 1; }
#line 10 "line.c"
int fourth(int x) { if (x > 9) note(COUNT, __FILE__, __LINE__); return x * 5; }
