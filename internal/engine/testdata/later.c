/* A program with two fixes, one after the other: -DFIX=0, 1 and 2. Commands on
 * stdin:
 * c  count, and print how often     o  what only the first fix changes
 * k  register a callback            h  call it, print what it says
 * e  is the callback the one that would be registered now?
 * f  fork, and print the pid of the child, which only waits
 * w  wait inside the callback until r, which prints what it says then */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

typedef int (*callback)(int);
static int gate[2];
static callback volatile registered;
static volatile int seen[64];

__attribute__((noinline, noclone)) static int plain(int x)
{
	seen[x & 63]++;
	return x + 7;
}

#if FIX
static int calls;
__attribute__((noinline, noclone)) static int checked(int x)
{
	char c;
	if (x == 1 && read(gate[0], &c, 1) != 1)
		return -1;
	seen[x & 63] += FIX;
	return x + 100 * FIX;
}
#else
#define checked plain
#endif

__attribute__((noinline, noclone)) int count(void)
{
	seen[1]++;
#if FIX
	calls++;
	return 1000 * FIX + calls;
#else
	return 0;
#endif
}

__attribute__((noinline, noclone)) int only(int x)
{
	seen[x & 63]++;
	return FIX == 1 ? x * 31 + seen[9] : x * 7 + seen[8];
}

__attribute__((noinline, noclone)) void enrol(void)
{
	seen[4]++;
	registered = checked;
}

__attribute__((noinline, noclone)) int enrolled(void)
{
	seen[5]++;
	return registered == checked;
}

static void *inside(void *a)
{
	return (void *)(intptr_t)registered((int)(intptr_t)a);
}

int main(void)
{
	pthread_t t;
	void *r;
	char c;
	int child;
	registered = plain;
	if (pipe(gate))
		return 1;
	puts("ready");
	fflush(stdout);
	while (read(0, &c, 1) == 1) {
		switch (c) {
		case 'c': printf("%d\n", count()); break;
		case 'o': printf("%d\n", only(3)); break;
		case 'k': enrol(); puts("enrolled"); break;
		case 'h': printf("%d\n", registered(0)); break;
		case 'e': printf("%d\n", enrolled()); break;
		case 'f':
			child = fork();
			while (!child)
				pause();
			printf("%d\n", child);
			break;
		case 'w': pthread_create(&t, 0, inside, (void *)1); usleep(100000); puts("inside"); break;
		case 'r':
			if (write(gate[1], "", 1) != 1)
				return 1;
			pthread_join(t, &r);
			printf("%d\n", (int)(intptr_t)r);
			break;
		}
		fflush(stdout);
	}
	return 0;
}
