/*
 * Compresses and decompresses with liblzma: .xz with one thread and with the
 * threaded coders, .lzma, .lz, and the MicroLZMA format.
 *
 * The answer that differs: how many allocations stay behind when the decoder
 * of a .lzma file cannot get its dictionary. The fixed build cleans up the
 * filter chain after a failed initialisation; the baseline keeps it for a
 * later use that must not happen. The types follow liblzma's public ABI.
 */
#include "library.h"

typedef struct {
	void *(*alloc)(void *opaque, size_t n, size_t size);
	void (*free)(void *opaque, void *p);
	void *opaque;
} lzma_allocator;

typedef struct {
	const uint8_t *next_in;
	size_t avail_in;
	uint64_t total_in;
	uint8_t *next_out;
	size_t avail_out;
	uint64_t total_out;
	const lzma_allocator *allocator;
	void *internal;
	void *reserved[4];
	uint64_t reserved_integers[4];
	int reserved_enums[2];
} lzma_stream;

typedef struct {
	uint32_t flags, threads;
	uint64_t block_size;
	uint32_t timeout, preset;
	const void *filters;
	int check;
	int reserved_enums[3];
	uint32_t reserved_ints[4];
	uint64_t memlimit_threading, memlimit_stop;
	uint64_t reserved_long[2];
	void *reserved_ptrs[4];
} lzma_mt;

enum { OK = 0, STREAM_END = 1, MEM_ERROR = 5, RUN = 0, FINISH = 3, CRC64 = 4, SIZE = 64 * 1000 };

static int (*easy_buffer_encode)(uint32_t, int, const lzma_allocator *, const uint8_t *, size_t, uint8_t *, size_t *, size_t);
static int (*stream_buffer_decode)(uint64_t *, uint32_t, const lzma_allocator *, const uint8_t *, size_t *, size_t, uint8_t *, size_t *, size_t);
static int (*stream_encoder_mt)(lzma_stream *, const lzma_mt *);
static int (*stream_decoder_mt)(lzma_stream *, const lzma_mt *);
static int (*alone_encoder)(lzma_stream *, const void *);
static int (*alone_decoder)(lzma_stream *, uint64_t);
static int (*lzma_code)(lzma_stream *, int);
static void (*lzma_end)(lzma_stream *);
static unsigned char (*lzma_preset)(void *, uint32_t);
static int (*lzip_decoder)(lzma_stream *, uint64_t, uint32_t);
static int (*micro_encoder)(lzma_stream *, const void *);
static int (*micro_decoder)(lzma_stream *, uint64_t, uint64_t, unsigned char, uint32_t);
static uint32_t (*crc32)(const uint8_t *, size_t, uint32_t);

static void load(void)
{
	easy_buffer_encode = need("lzma_easy_buffer_encode");
	stream_buffer_decode = need("lzma_stream_buffer_decode");
	stream_encoder_mt = need("lzma_stream_encoder_mt");
	stream_decoder_mt = need("lzma_stream_decoder_mt");
	alone_encoder = need("lzma_alone_encoder");
	alone_decoder = need("lzma_alone_decoder");
	lzma_code = need("lzma_code");
	lzma_end = need("lzma_end");
	lzma_preset = need("lzma_lzma_preset");
	lzip_decoder = need("lzma_lzip_decoder");
	micro_encoder = need("lzma_microlzma_encoder");
	micro_decoder = need("lzma_microlzma_decoder");
	crc32 = need("lzma_crc32");
}

/* through runs all of in through a coder and returns how much came out. */
static size_t through(lzma_stream *s, const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
	int ret;
	s->next_in = in;
	s->avail_in = n;
	s->next_out = out;
	s->avail_out = room;
	while ((ret = lzma_code(s, FINISH)) == OK)
		;
	if (ret != STREAM_END)
		wrong("coder");
	size_t got = room - s->avail_out;
	lzma_end(s);
	return got;
}

static void same(const uint8_t *a, const uint8_t *b, size_t got, const char *what)
{
	if (got != SIZE || memcmp(a, b, SIZE) != 0)
		wrong(what);
}

/*
 * lzip makes a .lz member of a .lzma file: the same data between another
 * header, with the dictionary as a power of two, and a trailer of checksum and
 * sizes.
 */
static size_t lzip(const uint8_t *lzma, size_t n, const uint8_t *text, uint8_t *out)
{
	enum { OLD_HEADER = 13, HEADER = 6, TRAILER = 20 };
	uint32_t crc = crc32(text, SIZE, 0);
	uint64_t sizes[2] = {SIZE, n - OLD_HEADER + HEADER + TRAILER};
	memcpy(out, "LZIP\1\22", HEADER); /* version 1, 1 << 18 bytes */
	memcpy(out + HEADER, lzma + OLD_HEADER, n - OLD_HEADER);
	memcpy(out + sizes[1] - TRAILER, &crc, sizeof crc);
	memcpy(out + sizes[1] - sizeof sizes, sizes, sizeof sizes);
	return sizes[1];
}

static void work(unsigned seed)
{
	uint8_t *text = malloc(SIZE), *packed = malloc(2 * SIZE), *again = malloc(SIZE);
	uint8_t options[1024] = {0};
	size_t in = 0, n = 0, out = 0;
	uint64_t limit = UINT64_MAX;
	fill(text, SIZE, seed);

	if (easy_buffer_encode(0, CRC64, NULL, text, SIZE, packed, &n, 2 * SIZE) != OK ||
	    stream_buffer_decode(&limit, 0, NULL, packed, &in, n, again, &out, SIZE) != OK)
		wrong("xz");
	same(text, again, out, "xz");

	lzma_mt mt = {.threads = 2, .block_size = 16 * 1024, .check = CRC64, .preset = 0};
	lzma_stream s = {0};
	if (stream_encoder_mt(&s, &mt) != OK)
		wrong("threaded encoder");
	n = through(&s, text, SIZE, packed, 2 * SIZE);
	memset(&s, 0, sizeof s);
	mt = (lzma_mt){.threads = 2, .memlimit_threading = UINT64_MAX, .memlimit_stop = UINT64_MAX};
	if (stream_decoder_mt(&s, &mt) != OK)
		wrong("threaded decoder");
	same(text, again, through(&s, packed, n, again, SIZE), "threaded xz");

	memset(&s, 0, sizeof s);
	if (lzma_preset(options, 0) != 0 || alone_encoder(&s, options) != OK)
		wrong("lzma encoder");
	n = through(&s, text, SIZE, packed, 2 * SIZE);
	memset(&s, 0, sizeof s);
	if (alone_decoder(&s, UINT64_MAX) != OK)
		wrong("lzma decoder");
	same(text, again, through(&s, packed, n, again, SIZE), "lzma");

	uint8_t *member = malloc(2 * SIZE);
	n = lzip(packed, n, text, member);
	memset(&s, 0, sizeof s);
	if (lzip_decoder(&s, UINT64_MAX, 0) != OK)
		wrong("lzip decoder");
	same(text, again, through(&s, member, n, again, SIZE), "lzip");
	free(member);

	memset(&s, 0, sizeof s);
	if (micro_encoder(&s, options) != OK)
		wrong("microlzma encoder");
	n = through(&s, text, SIZE, packed, 2 * SIZE);
	memset(&s, 0, sizeof s);
	if (micro_decoder(&s, n, SIZE, 1, 1 << 18) != OK)
		wrong("microlzma decoder");
	same(text, again, through(&s, packed, n, again, SIZE), "microlzma");
	free(text);
	free(packed);
	free(again);
}

static void *alloc_small(void *balance, size_t n, size_t size)
{
	if (n * size >= 4 << 20)
		return NULL;
	++*(int *)balance;
	return malloc(n * size);
}

static void free_counted(void *balance, void *p)
{
	if (p)
		--*(int *)balance;
	free(p);
}

static void ask(char *answer, size_t room)
{
	/* properties lc=3 lp=0 pb=2, a dictionary of 16 MiB, size unknown */
	static const uint8_t header[18] = {0x5d, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	int balance = 0;
	uint8_t out[16];
	lzma_allocator a = {alloc_small, free_counted, &balance};
	lzma_stream s = {.allocator = &a, .next_in = header, .avail_in = sizeof header, .next_out = out, .avail_out = sizeof out};
	if (alone_decoder(&s, UINT64_MAX) != OK)
		wrong("lzma decoder");
	int ret = lzma_code(&s, RUN);
	snprintf(answer, room, "code %d, %d allocations stay", ret, balance);
	lzma_end(&s);
}
