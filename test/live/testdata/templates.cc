// Many functions with the same body, of which one changes.
#include "live.h"

template <int N> struct Tag {
	long value;
};
template <class T> struct List {
	T *begin, *end;
	FN long size() const;
	FN T *at(long i);
};
template <class T> long List<T>::size() const { return (end - begin) * 2; }
template <class T> T *List<T>::at(long i) { return i < 0 ? nullptr : begin + i; }
#ifdef FIXED
template <> FN long List<Tag<11>>::size() const { return (end - begin) * 200; }
#endif
template <int N> static FN long use(Tag<N> *values, long n)
{
	List<Tag<N>> l = {values, values + n};
	return l.size() * N + l.at(1)->value;
}
template <int N> static long all(long n)
{
	static Tag<N> values[3] = {{1}, {N * 3}, {2}};
	long r = use(values, n);
	if constexpr (N > 0)
		r = r * 3 + all<N - 1>(n);
	return r % 1000003;
}
EXTERN_C void answer(const char *cmd)
{
	if (IS("ask"))
		printf("%ld", all<30>(ARG));
}
