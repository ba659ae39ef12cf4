/*
 * Reads through a buffered stream of GIO, and has attributes of files printed.
 * The builds give the same answers to all that does not overflow.
 */
#include "library.h"

static void *(*stream_of)(const void *, ptrdiff_t, void *), *(*buffered)(void *), *(*info_new)(void);
static ptrdiff_t (*fill_stream)(void *, ptrdiff_t, void *, void *);
static size_t (*peek)(void *, void *, size_t, size_t);
static void (*set_bytes)(void *, const char *, const char *), (*unref)(void *), (*release)(void *);
static char *(*as_string)(void *, const char *), **(*guess)(void *);
static void *(*file_of)(const char *);
static void (*freev)(char **);

static void load(void)
{
	stream_of = need("g_memory_input_stream_new_from_data");
	buffered = need("g_buffered_input_stream_new");
	fill_stream = need("g_buffered_input_stream_fill");
	peek = need("g_buffered_input_stream_peek");
	info_new = need("g_file_info_new");
	set_bytes = need("g_file_info_set_attribute_byte_string");
	as_string = need("g_file_info_get_attribute_as_string");
	guess = need("g_content_type_guess_for_tree");
	file_of = need("g_file_new_for_path");
	unref = need("g_object_unref");
	release = need("g_free");
	freev = need("g_strfreev");
}

static void work(unsigned seed)
{
	char text[32], got[32] = {0};
	snprintf(text, sizeof text, "%08x%08x", seed, ~seed);
	void *memory = stream_of(text, 16, NULL), *stream = buffered(memory);
	if (fill_stream(stream, 16, NULL, NULL) != 16 || peek(stream, got, 4, 8) != 8 || memcmp(got, text + 4, 8) || peek(stream, got, 15, 8) != 1 || peek(stream, got, 100, 8))
		wrong("peek");
	unref(stream);
	unref(memory);

	void *info = info_new();
	set_bytes(info, "a::b", "x\001\\\377");
	char *s = as_string(info, "a::b");
	if (strcmp(s, "x\\x01\\x5c\\xff"))
		wrong(s);
	release(s);
	unref(info);

	void *root = file_of("/proc/self/fdinfo");
	char **types = guess(root);
	if (types && types[0])
		wrong(types[0]);
	freev(types);
	unref(root);
}

static void ask(char *answer, size_t room)
{
	snprintf(answer, room, "-");
}
