/*
 * What the programs that put a library to work share. Each loads the
 * libraries that its arguments name by path, so that no development package is
 * needed, works with them in THREADS threads without end, and answers on
 * standard output to each line on standard input:
 *
 *   work   "work N"         N pieces of work done so far by all threads
 *   ask    "ask ANSWER"     an answer in which the two builds differ
 *
 * A wrong result ends the program with a message and exit code 1. It ends with
 * code 0 when standard input ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4 };

static _Atomic unsigned long done;
static void *libraries[4];

static void wrong(const char *what)
{
	fprintf(stderr, "wrong result: %s\n", what);
	_exit(1);
}

/* need is the address of a function of one of the libraries. */
static void *need(const char *name)
{
	for (int i = 0; i < 4 && libraries[i]; i++) {
		void *f = dlsym(libraries[i], name);
		if (f)
			return f;
	}
	wrong(name);
	return NULL;
}

/* fill writes bytes that compress well, but not too well. */
static __attribute__((unused)) void fill(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = (unsigned char)("abcdefghijklmnop"[(seed >> 16) & (i & 64 ? 15 : 3)]);
	}
}

/* Each program has these. */
static void load(void);                       /* looks up what it needs */
static void work(unsigned seed);              /* one piece of work */
static void ask(char *answer, size_t room);   /* the answer that differs */

static void *worker(void *seed)
{
	for (unsigned n = (unsigned)(uintptr_t)seed;; n += THREADS) {
		work(n);
		done++;
		usleep(500);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	char line[64], answer[512];
	for (int i = 1; i < argc && i <= 4; i++) {
		if (!(libraries[i - 1] = dlopen(argv[i], RTLD_NOW))) {
			fprintf(stderr, "load: %s\n", dlerror());
			return 1;
		}
	}
	load();
	for (uintptr_t i = 0; i < THREADS; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, worker, (void *)i) != 0)
			return 1;
	}
	while (fgets(line, sizeof line, stdin)) {
		if (strncmp(line, "work", 4) == 0) {
			printf("work %lu\n", (unsigned long)done);
		} else {
			ask(answer, sizeof answer);
			printf("ask %s\n", answer);
		}
		fflush(stdout);
	}
	return 0;
}
