/* A coroutine of the program's own making: a stack on the heap or in .bss,
 * switched by its own assembly code. It sleeps inside a function that changes. */
#include <stdint.h>
#include "live.h"

static void *main_sp, *co_sp;
static char pool[65536] __attribute__((aligned(16)));
static int result;

__attribute__((naked, noinline)) static void swap(void **save, void *to)
{
	__asm__("push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
		"mov %rsp, (%rdi)\n mov %rsi, %rsp\n"
		"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret");
}
static FN void yield(void) { swap(&co_sp, main_sp); }
static FN int doze(int x)
{
	x += IF_FIXED(200, 10);
	OPAQUE(x);
	yield();
	return x + IF_FIXED(2, 1);
}
static FN int twice(int x) { return 2 * x; }
static void body(void)
{
	for (;;) {
		int r = doze(1000);
		result = twice(r);
		yield();
	}
}

void answer(const char *cmd)
{
	if (IS("make")) { /* heap or static */
		char *base = strstr(cmd, "heap") ? aligned_alloc(16, sizeof pool) : pool;
		void **s = (void **)(base + sizeof pool - 64);
		s[6] = (void *)body;
		co_sp = s;
		putchar('1');
	} else if (IS("sleep")) {
		swap(&main_sp, co_sp);
		putchar('1');
	} else if (IS("wake")) {
		swap(&main_sp, co_sp);
		printf("%d", result);
	}
}
