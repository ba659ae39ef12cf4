/* Texts that change, texts that do not, tables of constants. */
#include "live.h"

static FN const char *greeting(void) { return IF_FIXED("greetings to the world", "hello, world"); }
static FN const char *same(int x) { return x > IF_FIXED(5, 3) ? "a common text" : "another common text"; }
static FN int weight(int i)
{
	static const int weights[] = {3, 1, 4, 1, 5, 9, 2, IF_FIXED(66, 6), 5, 3, 5};
	return weights[i % 11];
}
static FN const char *colour(int i)
{
	switch (i) {
	case 0: return "red";
	case 1: return "green";
	case 2: return IF_FIXED("turquoise", "blue");
	case 3: return "black";
	case 4: return "white";
	case 5: return "grey";
	}
	return "none";
}
static FN double factor(double x) { return x * IF_FIXED(0.125, 0.75); }
static FN void format(int x) { printf(IF_FIXED("<%05d>", "[%d]"), x); }

void answer(const char *cmd)
{
	static const char *remembered;
	if (IS("greeting"))
		printf("%s", greeting());
	else if (IS("same")) {
		const char *s = same((int)ARG);
		printf("%s %d", s, remembered == NULL || remembered == s); /* the same address for ever */
		remembered = s;
	} else if (IS("weight"))
		printf("%d", weight((int)ARG));
	else if (IS("colour"))
		printf("%s", colour((int)ARG));
	else if (IS("factor"))
		printf("%.4f", factor(8));
	else if (IS("format"))
		format(42);
}
