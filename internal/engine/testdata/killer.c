/* Runs a program and kills it, all its threads, before or after a certain one
 * of the system calls with which it reaches into other processes or writes its
 * record: killer N PROGRAM... Each call counts twice, as it begins and as it
 * ends. N = 0 kills never. It prints how many it counted. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static int counts(long nr)
{
	return nr == SYS_ptrace || nr == SYS_write || nr == SYS_pwrite64 || nr == SYS_process_vm_writev || nr == SYS_renameat ||
	       nr == SYS_unlinkat || nr == SYS_truncate;
}

int main(int argc, char **argv)
{
	long n = atol(argv[1]), count = 0;
	int status;
	pid_t child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(argv[2], argv + 2);
		_exit(127);
	}
	if (waitpid(child, &status, 0) != child ||
	    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC))
		return 1;
	ptrace(PTRACE_SYSCALL, child, 0, 0);
	for (;;) {
		pid_t tid = waitpid(-1, &status, __WALL);
		int sig = 0;
		if (tid < 0)
			return errno == ECHILD ? 0 : 1;
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			if (tid == child) {
				printf("%ld\n", count);
				return WIFSIGNALED(status) ? 9 : WEXITSTATUS(status);
			}
			continue;
		}
		if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
			struct user_regs_struct r;
			if (!ptrace(PTRACE_GETREGS, tid, 0, &r) && counts((long)r.orig_rax) && ++count == n) {
				kill(child, SIGKILL);
				continue;
			}
		} else if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP) {
			sig = WSTOPSIG(status);
		}
		ptrace(PTRACE_SYSCALL, tid, 0, sig);
	}
}
