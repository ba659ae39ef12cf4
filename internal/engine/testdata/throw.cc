// Exceptions, cancellation and destructors cross a function that changes.
#include <cstdio>
#include <cstdlib>
#include <execinfo.h>
#include <pthread.h>
#include <stdexcept>
#include <string>
#include <unistd.h>

static int destroyed;
struct Guard {
	~Guard() { destroyed++; }
};

__attribute__((noinline)) void thrower(int n)
{
	if (n > 0)
		throw std::runtime_error(std::to_string(n));
}

__attribute__((noinline)) int middle(int n)
{
	Guard g;
	try {
		thrower(n);
	} catch (const std::logic_error &) {
		return -1;
	}
	return n + (FIX ? 100 : 0);
}

__attribute__((noinline)) int catcher(int n)
{
	try {
		thrower(n);
	} catch (const std::exception &e) {
		return atoi(e.what()) + (FIX ? 1000 : 0);
	}
	return 0;
}

__attribute__((noinline)) int depth(int n)
{
	void *frames[64];
	int d = backtrace(frames, 64);
	return d + n * 0 + (FIX ? 100 : 0);
}

int main()
{
	std::printf("ready\n");
	std::fflush(stdout);
	for (char c; read(0, &c, 1) == 1;) {
		int r = 0;
		try {
			r = catcher(7);
			r += middle(5);
		} catch (const std::runtime_error &e) {
			r += 10000 * destroyed + atoi(e.what());
		}
		std::printf("%d %d\n", r, depth(0));
		std::fflush(stdout);
		destroyed = 0;
	}
}
