// The fixed build throws a class of its own.
#include <stdexcept>
#include "live.h"

#ifdef FIXED
struct Refused : std::runtime_error {
	using std::runtime_error::runtime_error;
};
#endif
static FN int check(int x)
{
	if (x > 3) {
#ifdef FIXED
		throw Refused("refused");
#else
		return -1;
#endif
	}
	return x + 1;
}
EXTERN_C void answer(const char *cmd)
{
	try {
		printf("%d", check((int)ARG));
	} catch (const std::exception &e) {
		printf("%s", e.what());
	}
}
