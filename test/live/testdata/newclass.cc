// The fixed build has classes of its own: it throws them, catches them, makes
// objects of them and asks what they are.
#include <memory>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include "live.h"

// So much of these differs that only their names tell that they are the same.
#define NAMED EXTERN_C FN __attribute__((visibility("default")))

struct Shape {
	virtual ~Shape() {}
	virtual int area() const { return 1; }
	virtual const char *name() const { return "shape"; }
};
struct Square : Shape {
	int area() const override { return 4; }
};
#ifdef FIXED
struct Refused : std::runtime_error {
	using std::runtime_error::runtime_error;
};
struct Named {
	virtual ~Named() {}
	virtual int number() const = 0;
};
struct Circle : Shape, Named {
	int area() const override { return 3; }
	const char *name() const override { return "circle"; }
	int number() const override { return 33; }
};
namespace {
struct Hidden : std::exception {
	const char *what() const noexcept override { return "hidden"; }
};
}
#endif
static std::unique_ptr<Shape> kept;

NAMED int check(int x)
{
	if (x > 3)
#ifdef FIXED
		throw Refused(x == 5 ? "five" : "refused");
#else
		throw std::runtime_error("too large");
#endif
	return x + 1;
}
NAMED int inside(int x)
{
	try {
#ifdef FIXED
		if (x == 9)
			throw Hidden();
#endif
		return check(x);
#ifdef FIXED
	} catch (const Refused &r) {
		if (r.what()[0] == 'f')
			throw;
		return 1000 + r.what()[1];
	} catch (const Hidden &h) {
		return 2000 + h.what()[0];
#endif
	} catch (const std::runtime_error &e) {
		return 500 + e.what()[0];
	}
}
NAMED Shape *make(int x)
{
#ifdef FIXED
	if (x == 3)
		return new Circle;
#endif
	if (x == 4)
		return new Square;
	return new Shape;
}
NAMED int number(Shape *s)
{
#ifdef FIXED
	if (Named *n = dynamic_cast<Named *>(s))
		return n->number() + (dynamic_cast<Circle *>(s) == s) + (typeid(*s) == typeid(Circle)) * 2;
#endif
	return dynamic_cast<Square *>(s) != nullptr ? s->area() : -1;
}
NAMED bool square(Shape *s) { return dynamic_cast<Square *>(s) != nullptr; }
NAMED const char *type(Shape *s) { return typeid(*s).name(); }

EXTERN_C void answer(const char *cmd)
{
	try {
		if (IS("check"))
			printf("%d", check((int)ARG));
		else if (IS("inside"))
			printf("%d", inside((int)ARG));
		else if (IS("keep"))
			kept.reset(make((int)ARG)), printf("kept");
		else if (IS("kept"))
			printf("%d %s %s %d", kept->area(), kept->name(), type(kept.get()), square(kept.get()));
		else if (IS("number"))
			printf("%d", number(kept.get()));
	} catch (const std::exception &e) {
		printf("%s %s", typeid(e).name(), e.what());
	}
}
