// cc: gcc -O2 -fPIE -pie
// MORE: patchable report
// FEWER: patchable ask
// INSIDE: patchable report
#include <stdio.h>
#include <time.h>
#include <unistd.h>
static int calls = 5, seen;
__attribute__((noinline)) static int report(int x) {
  calls++;
#ifdef MORE
  if (optarg)
    fputs(optarg, stdout);
#endif
#ifdef INSIDE
  fputs(tzname[1], stdout);
#endif
  return fprintf(stdout, "%d\n", x + seen);
}
__attribute__((noinline)) static int ask(char **v) {
  seen += getopt(1, v, "a:") + optind;
  fputs(tzname[0], stdout);
#ifndef FEWER
  opterr = 0;
#endif
  return (optarg != 0) + fgetc(stdin);
}
int main(int c, char **v) {
  int n = ask(v);
  while (n-- > 0)
    calls += report(n);
  return calls;
}
