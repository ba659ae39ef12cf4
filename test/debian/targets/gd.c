/*
 * Draws, copies, writes and reads images with libgd, GIF above all.
 *
 * The answer that differs: a GIF whose data ends before its pixels do. The
 * baseline goes on with table entries that it never set, so that a pixel has
 * the number that an earlier image of the same thread left there; the fixed
 * build stops and leaves the pixel 0.
 */
#include "library.h"

typedef struct gdImage gdImage;

static gdImage *(*create)(int, int);
static void (*destroy)(gdImage *);
static int (*allocate)(gdImage *, int, int, int);
static void (*rectangle)(gdImage *, int, int, int, int, int);
static void (*line)(gdImage *, int, int, int, int, int);
static int (*pixel)(gdImage *, int, int);
static void *(*gif)(gdImage *, int *);
static gdImage *(*from_gif)(int, void *);
static void *(*png)(gdImage *, int *);
static gdImage *(*from_png)(int, void *);
static void (*release)(void *);

static void load(void)
{
	create = need("gdImageCreate");
	destroy = need("gdImageDestroy");
	allocate = need("gdImageColorAllocate");
	rectangle = need("gdImageFilledRectangle");
	line = need("gdImageLine");
	pixel = need("gdImageGetPixel");
	gif = need("gdImageGifPtr");
	from_gif = need("gdImageCreateFromGifPtr");
	png = need("gdImagePngPtr");
	from_png = need("gdImageCreateFromPngPtr");
	release = need("gdFree");
}

static void same(gdImage *a, gdImage *b, const char *what)
{
	if (!b)
		wrong(what);
	for (int y = 0; y < 100; y++)
		for (int x = 0; x < 160; x++)
			if (pixel(a, x, y) != pixel(b, x, y))
				wrong(what);
	destroy(b);
}

/* picture is an image of 160 by 100 pixels and 200 colours. */
static gdImage *picture(unsigned seed)
{
	gdImage *im = create(160, 100);
	if (!im)
		wrong("create");
	for (int i = 0; i < 200; i++)
		allocate(im, i, 255 - i, (i * 7) & 255);
	for (int i = 1; i < 60; i++) {
		seed = seed * 1103515245 + 12345;
		rectangle(im, seed >> 24 & 127, seed >> 16 & 63, (seed >> 8 & 31) + 128, 99, i * 3);
		line(im, 0, i, 159, seed >> 20 & 63, 199 - i);
	}
	return im;
}

static void work(unsigned seed)
{
	int n;
	gdImage *im = picture(seed);
	void *bytes = gif(im, &n);
	same(im, from_gif(n, bytes), "gif");
	release(bytes);
	bytes = png(im, &n);
	same(im, from_png(n, bytes), "png");
	release(bytes);
	destroy(im);
}

static void ask(char *answer, size_t room)
{
	/* 4 by 1 pixels of 4 colours, in codes of 3 bits: after a 1 comes
	   already the end code 5. */
	static unsigned char cut[] = {
		'G', 'I', 'F', '8', '9', 'a', 4, 0, 1, 0, 0x81, 0, 0,
		0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255,
		',', 0, 0, 0, 0, 4, 0, 1, 0, 0,
		2, 4, 1 | 5 << 3, 0, 0, 0, 0, ';',
	};
	int n;
	gdImage *im = picture(1);
	void *bytes = gif(im, &n);
	gdImage *first = from_gif(n, bytes); /* leaves its table on the stack */
	gdImage *second = from_gif(sizeof cut, cut);
	if (second)
		snprintf(answer, room, "pixels %d %d %d %d", pixel(second, 0, 0), pixel(second, 1, 0), pixel(second, 2, 0), pixel(second, 3, 0));
	else
		snprintf(answer, room, "no image");
	release(bytes);
	destroy(first);
	if (second)
		destroy(second);
	destroy(im);
}
