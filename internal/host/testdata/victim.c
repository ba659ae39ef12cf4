// A program with a library, that gets ready and waits. The first argument
// says what it does before.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#ifdef LIBRARY
int version(void);
#else
static int version(void) { return VERSION; }
#endif

static void die(const char *what) { perror(what); exit(1); }

static void *wait_for_ever(void *arg) { (void)arg; for (;;) pause(); }

/* Puts a copy of the program's code in the place of its file's mapping. */
static void copy_code(void) {
	unsigned long start, end;
	char line[4096], perms[5];
	FILE *f = fopen("/proc/self/maps", "r");
	if (!f) die("maps");
	do {
		if (!fgets(line, sizeof line, f)) die("no code");
		sscanf(line, "%lx-%lx %4s", &start, &end, perms);
	} while (perms[2] != 'x');
	fclose(f);
	char *to = mmap(0, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED) die("mmap");
	memcpy(to, (void *)start, end - start);
	if (mprotect(to, end - start, PROT_READ | PROT_EXEC)) die("mprotect");
	if (mremap(to, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start) == MAP_FAILED) die("mremap");
}

int main(int argc, char **argv) {
	const char *how = argc > 1 ? argv[1] : "";
	if (!strcmp(how, "chroot")) {
		if (chroot(argv[2]) || chdir("/")) die("chroot");
	} else if (!strcmp(how, "map")) {
		for (int i = 2; i < argc; i++) {
			int fd = open(argv[i], O_RDWR);
			if (fd < 0) die(argv[i]);
			if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) die("mmap");
			close(fd);
		}
		int m = memfd_create("jit", 0);
		if (ftruncate(m, 4096) || write(m, "\177ELF", 4) != 4) die("memfd");
		if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, m, 0) == MAP_FAILED) die("mmap");
		if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) die("mmap");
	} else if (!strcmp(how, "fork")) {
		for (int i = atoi(argv[2]); i > 0; i--) {
			pid_t pid = fork();
			if (pid < 0) die("fork");
			if (pid == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				if (getppid() == 1) _exit(0);
				for (;;) pause();
			}
		}
	} else if (!strcmp(how, "copy")) {
		copy_code();
	} else if (!strcmp(how, "thread")) {
		pthread_t t;
		if (pthread_create(&t, 0, wait_for_ever, 0)) die("pthread_create");
	}
	printf("ready %d\n", version());
	fflush(stdout);
	if (!strcmp(how, "thread")) pthread_exit(0);
	wait_for_ever(0);
}
