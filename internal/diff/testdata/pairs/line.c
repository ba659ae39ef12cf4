// cc: gcc -O2 -fPIC -shared
// LINES: unchanged
// ONE: patchable second
// BESIDE: patchable second
// LEVEL: patchable third
// Line numbers that moved by one, and a fix of one number beside them.
extern void report(const char *file, int line, int level);
#if defined LINES || defined BESIDE || defined LEVEL
#line 101 "line.c"
#else
#line 100 "line.c"
#endif
int first(int x) { if (x > 4) report(__FILE__, __LINE__, 3); return x + 1; }
#if defined ONE || defined BESIDE
#define MOST 7
#else
#define MOST 6
#endif
#ifdef LEVEL
#define GRAVE 4
#else
#define GRAVE 3
#endif
#if defined LINES || defined BESIDE || defined LEVEL
#line 111 "line.c"
#else
#line 110 "line.c"
#endif
int second(int x) { if (x > MOST) report(__FILE__, __LINE__, 3); return x * 3; }
int third(int x) { if (x > 8) report(__FILE__, __LINE__, GRAVE); return x - 1; }
