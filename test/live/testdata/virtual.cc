// Virtual functions that change, dynamic_cast and type information.
#include <typeinfo>
#include "live.h"

struct Base {
	int n = 1;
	virtual ~Base() = default;
	FN virtual int value() const;
	FN virtual const char *name() const;
};
struct Left : virtual Base {
	FN int value() const override;
};
struct Right : virtual Base {
	int r = 2;
	FN const char *name() const override;
};
struct Both final : Left, Right {
	FN int value() const override;
};
int Base::value() const { return n + IF_FIXED(1000, 0); }
const char *Base::name() const { return "base"; }
int Left::value() const { return n * 2; }
const char *Right::name() const { return IF_FIXED("right and wrong", "right"); }
int Both::value() const { return Left::value() + r * IF_FIXED(100, 10); }

static FN Base *create(int k)
{
	if (IF_FIXED(k == 3, 0))
		return new Both;
	return k == 0 ? new Base : k == 1 ? static_cast<Base *>(new Left) : new Right;
}
static FN int kind(Base *b)
{
	int k = 0;
	if (dynamic_cast<Left *>(b))
		k |= 1;
	if (dynamic_cast<Right *>(b))
		k |= 2;
	if (typeid(*b) == typeid(Both))
		k |= IF_FIXED(64, 4);
	return k | (typeid(*b) == typeid(Base) ? IF_FIXED(32, 8) : 0);
}
static FN int old_kind(Base *b) { return (dynamic_cast<Both *>(b) != nullptr) + 2 * (typeid(*b) == typeid(Right)); }

EXTERN_C void answer(const char *cmd)
{
	static Base *kept;
	if (IS("keep")) {
		delete kept;
		kept = create((int)ARG);
		printf("kept");
	} else if (IS("ask"))
		printf("%d %s %d %d", kept->value(), kept->name(), kind(kept), old_kind(kept));
	else if (IS("both")) {
		Both b;
		printf("%d %d %d", b.value(), kind(&b), old_kind(&b));
	}
}
