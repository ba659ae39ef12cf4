/* What every target of the live tests shares. A case defines answer(), which
 * prints what the functions of the case return; the same source is built as a
 * program, or with -DLIB as a library for host.c, and with -DFIXED as the
 * fixed build. Commands come as lines on stdin, each gets one line back. */
#ifndef LIVE_H
#define LIVE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef FIXED
#define IF_FIXED(fixed, old) (fixed)
#else
#define IF_FIXED(fixed, old) (old)
#endif

#ifdef __cplusplus
#define EXTERN_C extern "C"
#else
#define EXTERN_C
#endif

/* FN keeps a function a function: no copy of it lies in its caller. */
#define FN __attribute__((noinline, noclone, noipa))
#define IS(s) (strncmp(cmd, s, strlen(s)) == 0 && (cmd[strlen(s)] == 0 || cmd[strlen(s)] == ' '))
#define ARG (strchr(cmd, ' ') ? atol(strchr(cmd, ' ')) : 0)

/* opaque hides from the compiler what a value is. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x))

#if defined(LIB) && !defined(HOST)
EXTERN_C __attribute__((visibility("default"), noipa)) void answer(const char *cmd);
#else
#ifdef HOST
static void (*ask)(const char *);
#define ANSWER ask
static void setup(void);
#else
EXTERN_C FN void answer(const char *cmd);
#define ANSWER answer
#define setup() ((void)0)
#endif
int main(void)
{
	static char line[256];
	alarm(150); /* never outlives a test that was cut off */
	setup();
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		ANSWER(line);
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
#endif
#endif
