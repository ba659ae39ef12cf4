// cc: gcc -O2 -fPIC -shared
// LINES: unchanged
// LINES_AND_FIX: patchable second
// LINES_AND_ONE: patchable third
// The name of the function is passed between the source file's and the line.
extern void note(int level, const char *file, const char *function, int line, const char *text);
#ifdef LINES_AND_FIX
#define LEVEL 8
#else
#define LEVEL 5
#endif
#ifdef LINES_AND_ONE
#define MOST 9
#else
#define MOST 8
#endif
#if defined LINES || defined LINES_AND_FIX || defined LINES_AND_ONE
#line 203 "line_func.c"
#else
#line 200 "line_func.c"
#endif
int first(int x) { if (x > 4) note(3, __FILE__, __func__, __LINE__, "large"); return x + 1; }
int second(int x) { if (x > 6) note(LEVEL, __FILE__, __func__, __LINE__, "larger"); return x * 3; }
int third(int x) { if (x > MOST) note(3, __FILE__, __func__, __LINE__, "largest"); return x - 1; }
