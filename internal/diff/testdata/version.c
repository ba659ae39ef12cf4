// cc: gcc -O2 -fPIC -shared
// VERSION: unchanged
// ADDRESS: patchable bind_to
// OID: patchable oid
// REVISION: unchanged
// RANGE: patchable range
#ifdef VERSION
#define V "3.0.16"
#else
#define V "3.0.15"
#endif
#ifdef ADDRESS
#define A "127.0.0.1"
#else
#define A "0.0.0.0"
#endif
#ifdef OID
#define O "1.2.840.113549.1.1.11"
#else
#define O "1.2.840.113549.1.1.5"
#endif
#ifdef REVISION
#define R "1.20-1+deb12u1"
#else
#define R "1.20-1+b2"
#endif
#ifdef RANGE
#define G "1.5-3"
#else
#define G "1.5-2"
#endif
const char *usage[] = {"tool " R "\nusage: tool [-v]", "tool"};
const char *range(void) { return "from " G; }
const char *version(void) { return "library " V; }
const char *bind_to(void) { return A; }
const char *oid(void) { return O; }
