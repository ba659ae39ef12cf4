// Exceptions from, through and into new code; destructors run.
#include <stdexcept>
#include <string>
#include "live.h"

static int destroyed;
struct Guard {
	int n;
	explicit Guard(int n) : n(n) {}
	FN ~Guard();
};
Guard::~Guard() { destroyed += n; }
struct Mine : std::runtime_error {
	int code;
	Mine(const char *s, int c) : std::runtime_error(s), code(c) {}
};

// old code that throws, below everything
static FN void raise_(int k)
{
	switch (k) {
	case 0: throw Mine("mine", 7);
	case 1: throw std::out_of_range("range");
	case 2: throw 42;
	}
}
// changed: throws itself
static FN int thrower(int x)
{
	Guard g(IF_FIXED(10, 1));
	if (x >= IF_FIXED(3, 5))
		throw Mine(IF_FIXED("too large, says the fixed build", "too large"), x);
	return x;
}
// changed: exceptions pass through
static FN int passage(int k)
{
	Guard g(IF_FIXED(200, 2));
	raise_(k);
	return IF_FIXED(-2, -1);
}
// changed: catches
static FN int catcher(int k)
{
	Guard g(IF_FIXED(3000, 3));
	try {
		raise_(k);
	} catch (const Mine &m) {
		return m.code + IF_FIXED(500, 5);
	} catch (const std::exception &e) {
		return (int)std::string(e.what()).size() + IF_FIXED(600, 6);
	} catch (int i) {
		if (IF_FIXED(i, 0))
			throw Mine("rethrown", i);
		return i;
	}
	return 0;
}

EXTERN_C void answer(const char *cmd)
{
	destroyed = 0;
	try {
		int r = 0;
		if (IS("throw"))
			r = thrower((int)ARG);
		else if (IS("pass"))
			r = passage((int)ARG);
		else if (IS("catch"))
			r = catcher((int)ARG);
		printf("%d %d", r, destroyed);
	} catch (const Mine &m) {
		printf("%s %d %d", m.what(), m.code, destroyed);
	} catch (const std::exception &e) {
		printf("%s %d", e.what(), destroyed);
	} catch (int i) {
		printf("int %d %d", i, destroyed);
	}
}
