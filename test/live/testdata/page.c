/* The bytes of the entry that are exchanged lie on two pages. */
#include "live.h"
#define STR2(x) #x
#define STR(x) STR2(x)
#ifdef FIXED
#define FACTOR 30
#else
#define FACTOR 3
#endif
__asm__(
	".text\n.balign 4096\n.fill 4093, 1, 0xcc\n"
	".hidden across\n.globl across\n.type across, @function\n"
	"across:\n.cfi_startproc\n"
	"\tmovl %edi, %eax\n\timull $" STR(FACTOR) ", %eax, %eax\n\taddl $1, %eax\n\tret\n"
	".cfi_endproc\n.size across, .-across\n.balign 16\n");
int across(int x);

void answer(const char *cmd)
{
	if (IS("across"))
		printf("%d %d", across(5), (int)((unsigned long)across & 4095));
}
