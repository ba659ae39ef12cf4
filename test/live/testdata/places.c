/* A program that first makes itself hard to reach: each argument says how. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#define main program
#include "live.h"
#undef main
#ifdef CONTEXTS
#include <ucontext.h>
#endif

static FN int value(int x) { return x + IF_FIXED(200, 10); }
static FN int other(int x) { return x * IF_FIXED(7, 6); }

void answer(const char *cmd)
{
	if (IS("value")) {
		printf("%d %d", value(0), other(1));
	} else if (IS("hog")) { /* ARG KiB of memory that is used */
		size_t n = ARG << 10;
		char *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (m != MAP_FAILED)
			memset(m, 1, n);
		printf("%d", m != MAP_FAILED);
	} else if (IS("exec")) {
		execl("/proc/self/exe", "target", NULL);
	}
}

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* Kills whoever maps memory, changes its protection, or makes a file of it. */
static void strict(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {sizeof f / sizeof *f, f};
	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p), "seccomp");
}

static void limit(int what, size_t extra)
{
	char line[256];
	size_t kb = 0;
	const char *key = what == RLIMIT_AS ? "VmSize: %zu" : "VmLck: %zu";
	FILE *f = fopen("/proc/self/status", "r");
	must(f != NULL, "status");
	while (!kb && fgets(line, sizeof line, f))
		sscanf(line, key, &kb);
	fclose(f);
	struct rlimit r = {(kb << 10) + extra, (kb << 10) + extra};
	must(kb && !setrlimit(what, &r), "limit");
}

/* Takes every gap that an overlay could be put in. */
static void fill(void)
{
	static char maps[1 << 16];
	int fd = open("/proc/self/maps", O_RDONLY), n = 0, k;
	while ((k = read(fd, maps + n, sizeof maps - 1 - n)) > 0)
		n += k;
	close(fd);
	unsigned long here = (unsigned long)&value, at = here - (2UL << 30), top = here + (2UL << 30), lo, hi;
	for (char *s = maps; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL) {
		if (sscanf(s, "%lx-%lx", &lo, &hi) != 2)
			continue;
		unsigned long start = at & -4096UL, end = lo < top ? lo : top & -4096UL;
		if (start < end)
			must(mmap((void *)start, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == (void *)start, "fill");
		if (hi > at)
			at = hi;
	}
}

/* Puts a copy of its code in the place of its file's mapping: all of it, or the page that value() begins in. */
static void copy_code(int all)
{
	unsigned long here = (unsigned long)&value, lo = 0, hi = 0;
	char line[4096];
	FILE *f = fopen("/proc/self/maps", "r");
	must(f != NULL, "maps");
	while (fgets(line, sizeof line, f) && sscanf(line, "%lx-%lx", &lo, &hi) == 2 && hi <= here)
		;
	fclose(f);
	if (!all)
		lo = here & -4096UL, hi = lo + 4096;
	size_t n = hi - lo;
	void *to = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(to != MAP_FAILED, "map");
	memcpy(to, (void *)lo, n);
	must(!mprotect(to, n, PROT_READ | PROT_EXEC) && mremap(to, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)lo) == (void *)lo, "move");
}

#ifdef CONTEXTS
static ucontext_t here, there;
static char stack[1 << 16];
static void sleeps(void)
{
	for (;;)
		swapcontext(&there, &here);
}
static void contexts(void)
{
	getcontext(&there);
	there.uc_stack.ss_sp = stack;
	there.uc_stack.ss_size = sizeof stack;
	makecontext(&there, sleeps, 0);
	swapcontext(&here, &there);
}
#else
#define contexts() must(0, "contexts")
#endif

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *cmd = argv[i];
		if (IS("chroot"))
			must(!chroot(strchr(cmd, ' ') + 1) && !chdir("/"), "chroot");
		else if (IS("seccomp"))
			strict();
		else if (IS("mdwe"))
			must(!prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0), "mdwe");
		else if (IS("no-dump"))
			must(!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable");
		else if (IS("no-new-privileges"))
			must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no-new-privileges");
		else if (IS("lock")) /* all memory, and ARG bytes more at most */
			must(!mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall"), limit(RLIMIT_MEMLOCK, ARG);
		else if (IS("nobody"))
			must(!setresuid(65534, 65534, 65534), "setresuid");
		else if (IS("size"))
			limit(RLIMIT_AS, ARG);
		else if (IS("fill"))
			fill();
		else if (IS("contexts"))
			contexts();
		else if (IS("euid"))
			must(geteuid() != getuid(), "euid");
		else if (IS("copy"))
			copy_code(ARG);
		else if (IS("twice")) { /* its own file once more, by hand */
			int fd = open("/proc/self/exe", O_RDONLY);
			must(mmap(NULL, lseek(fd, 0, SEEK_END), PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED, "map");
			close(fd);
		} else {
			errno = EINVAL;
			must(0, cmd);
		}
	}
	return program();
}
