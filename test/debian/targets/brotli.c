/* Compresses and decompresses with libbrotlienc and libbrotlidec. */
#include "library.h"

enum { SIZE = 100 * 1000 };

static int (*compress)(int, int, int, size_t, const uint8_t *, size_t *, uint8_t *);
static int (*decompress)(size_t, const uint8_t *, size_t *, uint8_t *);
static void *(*create)(void *, void *, void *);
static int (*stream)(void *, size_t *, const uint8_t **, size_t *, uint8_t **, size_t *);
static void (*destroy)(void *);

static void load(void)
{
	compress = need("BrotliEncoderCompress");
	decompress = need("BrotliDecoderDecompress");
	create = need("BrotliDecoderCreateInstance");
	stream = need("BrotliDecoderDecompressStream");
	destroy = need("BrotliDecoderDestroyInstance");
}

static void work(unsigned seed)
{
	uint8_t *text = malloc(SIZE), *packed = malloc(2 * SIZE), *again = malloc(SIZE);
	size_t n = 2 * SIZE, got = SIZE;
	fill(text, SIZE, seed);
	if (!compress((int)(seed % 6) + 1, 18, (int)(seed % 3), SIZE, text, &n, packed))
		wrong("compress");
	if (decompress(n, packed, &got, again) != 1 || got != SIZE || memcmp(text, again, SIZE) != 0)
		wrong("decompress");

	/* the same in small pieces, which takes the decoder's careful paths */
	void *decoder = create(NULL, NULL, NULL);
	const uint8_t *in = packed;
	uint8_t *out = again;
	size_t room = SIZE, total = 0;
	int state = 2; /* needs more input */
	memset(again, 0, SIZE);
	while (state == 2 && in < packed + n) {
		size_t piece = (size_t)(packed + n - in) < 97 ? (size_t)(packed + n - in) : 97;
		state = stream(decoder, &piece, &in, &room, &out, &total);
	}
	if (state != 1 || total != SIZE || memcmp(text, again, SIZE) != 0)
		wrong("decompress in pieces");
	destroy(decoder);
	free(text);
	free(packed);
	free(again);
}

static void ask(char *answer, size_t room)
{
	snprintf(answer, room, "none");
}
