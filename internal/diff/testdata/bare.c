// cc: gcc -O2 -fPIC -shared -fno-asynchronous-unwind-tables -Wl,--no-ld-generated-unwind-info
// SAME: unchanged
// CODE: refused code-outside-fde only
// TABLE: refused constant-data-changed
// A library of tables, whose little code no call-frame information covers.
#ifdef TABLE
const int table[] = {1, 2, 4};
#else
const int table[] = {1, 2, 3};
#endif
#ifdef CODE
int get(int i) { return table[i & 3] + 1; }
#else
int get(int i) { return table[i & 3]; }
#endif
// What runs at the start lies in the same code, and moves with it.
static int started;
__attribute__((constructor)) static void start(void) { started = table[0]; }
int has_started(void) { return started; }
