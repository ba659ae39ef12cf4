// cc: gcc -O2 -fPIC -shared
// FIELD: refused live-value-changed
// VARIABLE: refused live-value-changed
// KNOWN: patchable add show
// OWN: patchable add
// MORE: patchable add show
// Bits of flags that objects hold: one that only the fixed build sets and asks
// for is missing in the objects that exist.
#include <stdio.h>
#define OWN_CODE __attribute__((noipa))
struct rec { int id; char tag[12]; short k; short fl; struct rec *next; };
static struct rec recs[10];
static int nrec, state;
OWN_CODE void add(struct rec *r, long i, long k) {
  r->id = i;
  r->tag[0] = k;
  r->fl = i & 3;
#ifdef FIELD
  r->fl |= 4;
#elif defined OWN
  if (r->tag[1] & 16) return;
  r->tag[1] |= 16;
#elif defined KNOWN
  if (k) r->tag[2] |= 32;
#elif defined MORE
  if (i > 100) r->k = 1;
#endif
}
OWN_CODE void put(long i) {
  if (nrec >= 10) return;
  recs[nrec].id = i;
  nrec++;
}
OWN_CODE void begin(int n) {
  state = n;
#ifdef VARIABLE
  if (n) state |= 64;
#endif
}
OWN_CODE int going(void) {
#ifdef VARIABLE
  if (!(state & 64)) return puts("not yet");
#endif
  return state & 1;
}
OWN_CODE void mark(struct rec *r) { r->tag[2] |= 32; }
OWN_CODE void show(struct rec *r) {
  for (; r; r = r->next) {
#ifdef FIELD
    if (!(r->fl & 4)) continue;
#elif defined KNOWN
    if (!(r->tag[2] & 32)) continue;
#elif defined MORE
    if (!(r->fl & 2)) continue;
#endif
    printf("%d:%s:%d ", r->id, r->tag, r->k);
  }
}
OWN_CODE void list(void) {
  for (int i = 0; i < nrec; i++) printf("%d ", recs[i].id);
}
