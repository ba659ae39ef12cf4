/* Programs compare pointers, store them and hand them out. */
#include "live.h"

static const char empty[1] = "";
static const int table[4] = {1, 2, 3, 4};
struct object {
	const char *name;
	const int *numbers;
	int (*op)(int);
};
static struct object live;

static FN int plain(int x) { return x + 1; }
static FN int changed(int x) { return x * IF_FIXED(3, 2); }
static FN const char *make(int n)
{
	if (n < IF_FIXED(2, 1))
		return empty;
	return strdup(n < 10 ? "owned" : "long");
}
static FN int release(const char *p)
{
	if (p == empty)
		return 0;
	free((void *)p); /* a copy of empty would end the program */
	return 1;
}
static FN void fill(struct object *o, int n)
{
	o->name = make(n);
	o->numbers = table;
	o->op = n & IF_FIXED(4, 1) ? changed : plain;
}
static FN int check(struct object *o)
{
	return (o->name == empty) + 2 * (o->numbers == table) + 4 * (o->op == plain) + 8 * (o->op == changed);
}

void answer(const char *cmd)
{
	if (IS("store")) {
		fill(&live, (int)ARG);
		printf("%d", check(&live));
	} else if (IS("call"))
		printf("%d", live.op(10));
	else if (IS("check"))
		printf("%d", check(&live));
	else if (IS("drop")) {
		printf("%d", release(live.name));
		live.name = empty;
	} else if (IS("make"))
		printf("%d", release(make((int)ARG)));
}
