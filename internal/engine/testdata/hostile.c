/* A program that lies about itself, in the way that the argument says. The
 * command v prints what its function returns, q ends it. */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noinline, noclone)) int f(int x)
{
	__asm__ volatile("" : "+r"(x));
	for (int i = 0; i < (x & 3); i++)
		x ^= i * 7;
	return FIX ? x + 2000 : x + 1;
}

/* Never called, and changed by the patch too. */
__attribute__((noinline, noclone)) int g(int x)
{
	__asm__ volatile("" : "+r"(x));
	for (int i = 0; i < (x & 7); i++)
		x ^= i * 11;
	return FIX ? x + 3000 : x + 2;
}

int (*volatile leads)(int) = g;
volatile int off = 7;

extern char __ehdr_start[];

static void must(int ok) { if (!ok) abort(); }

static char *pages(size_t n, int prot)
{
	char *p = mmap(0, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(p != MAP_FAILED);
	return p;
}

/* Mappings come, change their protection and go, without a pause. */
static void *remap(void *a)
{
	(void)a;
	for (;;) {
		char *p = pages(64 << 10, PROT_READ);
		mprotect(p + 4096, 4096, PROT_READ | PROT_EXEC);
		munmap(p + 8192, 4096);
		mprotect(__ehdr_start, 4096, PROT_READ | PROT_EXEC);
		mprotect(__ehdr_start, 4096, PROT_READ);
		munmap(p, 64 << 10);
	}
}

/* The code of a function changes all the time. */
static void *flip(void *a)
{
	volatile char *code = (volatile char *)leads + off;
	(void)a;
	must(!mprotect((char *)((uintptr_t)code & -4096), 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
	for (;;)
		*code ^= 1;
}

/* The program headers say that the image is elsewhere, and endless. */
static void header(uint64_t first, uint64_t size)
{
	Elf64_Ehdr *h = (Elf64_Ehdr *)__ehdr_start;
	must(!mprotect(h, 4096, PROT_READ | PROT_WRITE));
	Elf64_Phdr *ph = (Elf64_Phdr *)((char *)h + h->e_phoff);
	for (int i = 0; i < h->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD) {
			ph[i].p_vaddr += first;
			ph[i].p_memsz += size;
		}
	must(!mprotect(h, 4096, PROT_READ));
}

/* Pages that look as if a patch had left its header there. */
static void forge(int n, const char *text)
{
	for (int i = 0; i < n; i++) {
		char *p = pages(3 * 4096, PROT_NONE) + 4096;
		must(!mprotect(p, 4096, PROT_READ | PROT_WRITE));
		uint32_t len = strlen(text), size = 4096;
		memcpy(p, text, len);
		memcpy(p + 4096 - 16, "HOTPATCH", 8);
		memcpy(p + 4096 - 8, &len, 4);
		memcpy(p + 4096 - 4, &size, 4);
		must(!mprotect(p, 4096, PROT_READ));
	}
}

int main(int argc, char **argv)
{
	pthread_t t;
	const char *how = argc > 1 ? argv[1] : "";
	if (!strcmp(how, "remap")) {
		must(!pthread_create(&t, 0, remap, 0));
	} else if (!strcmp(how, "flip")) {
		must(!pthread_create(&t, 0, flip, 0));
	} else if (!strcmp(how, "moved")) {
		header(1 << 20, 0);
	} else if (!strcmp(how, "endless")) {
		header(0, 1ull << 46);
	} else if (!strcmp(how, "forged")) {
		char text[512]; /* of a patch that nobody knows, at the program's own place */
		snprintf(text, sizeof text, "{\"format\":1,\"patch\":\"../../../etc/passwd\",\"bias\":%lu,\"overlay\":4096,\"start\":4096,\"end\":8192,\"finder_page\":4096}", (unsigned long)__ehdr_start);
		forge(1, text);
	} else if (!strcmp(how, "manyforged")) {
		forge(5000, "{\"format\":1}");
	} else if (!strcmp(how, "lists")) {
		struct link_map *l = _r_debug.r_map;
		l->l_next = l; /* a circle */
		_r_debug.r_version = 2;
		((void **)&_r_debug)[5] = &_r_debug; /* r_next */
	} else if (!strcmp(how, "maps")) {
		char *p = pages(60000 * 4096ul, PROT_NONE);
		for (long i = 0; i < 60000; i += 2)
			must(!mprotect(p + i * 4096, 4096, PROT_READ));
	} else if (!strcmp(how, "modules")) {
		FILE *self = fopen("/proc/self/exe", "r");
		must(self != 0);
		for (int i = 0; i < 5000; i++)
			must(mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(self), 0) != MAP_FAILED);
	}
	printf("ready\n");
	fflush(stdout);
	for (char c; read(0, &c, 1) == 1 && c != 'q';) {
		printf("%d\n", f(8));
		fflush(stdout);
	}
	return 0;
}
