package main

// A row is a case with what is expected, and the tests that show it: a test of
// a package, or one of its subtests.
type row struct {
	name, expect string
	pkg, test    string
}

const (
	live      = "./test/live"
	engine    = "./internal/engine"
	processes = "./internal/process"
	host      = "./internal/host"
)

const inAndOut = "patched, answers like the fixed build; removed, as before"

var groups = []struct {
	title string
	rows  []row
}{
	{"Namespaces, roots and file systems", []row{
		{"own mount, pid, user, network, IPC and host name namespaces", inAndOut, live, "TestPlaces/namespaces"},
		{"process 1 of a pid namespace", inAndOut, live, "TestPlaces/first-of-pid-namespace"},
		{"chroot with its files alone, which are then unlinked", inAndOut, live, "TestPlaces/chroot"},
		{"empty chroot, static-pie", inAndOut, live, "TestPlaces/empty-chroot"},
		{"container on overlayfs, a file of the image replaced from inside", inAndOut, live, "TestPlaces/overlayfs"},
		{"container on overlayfs, a file of the lower layer replaced", inAndOut, live, "TestPlaces/overlayfs-lower"},
		{"numbers in maps that are not those of the file (overlayfs)", "the file that runs is found all the same", host, "TestOverlay"},
		{"the program's file is deleted", inAndOut, engine, "TestDeletedFile"},
	}},
	{"Hardening", []row{
		{"seccomp kills on mmap, mprotect, munmap, openat, memfd_create", inAndOut, live, "TestPlaces/seccomp-kills"},
		{"the same, with busy threads", inAndOut, engine, "TestHardened/seccomp"},
		{"PR_SET_MDWE", inAndOut, live, "TestPlaces/mdwe"},
		{"the same, with busy threads", inAndOut, engine, "TestHardened/mdwe"},
		{"setuid program run by another user", inAndOut, live, "TestPlaces/setuid"},
		{"not dumpable", inAndOut, live, "TestPlaces/not-dumpable"},
		{"no new privileges", inAndOut, live, "TestPlaces/no-new-privileges"},
		{"endbr64 at entries (-fcf-protection=full)", inAndOut, live, "TestCases/endbr64"},
		{"code from a file, as where anonymous memory may not be executable", inAndOut, engine, "TestInFiles"},
		{"neither anonymous memory nor a file may hold code", "refused `kernel`; after a remount patched", engine, "TestNoFiles"},
		{"/proc/PID/mem writes nothing (proc_mem.force_override=never)", "a tracer writes; patched and removed", engine, "TestNoForce"},
	}},
	{"Memory", []row{
		{"mlockall(MCL_FUTURE), room below RLIMIT_MEMLOCK", inAndOut, live, "TestPlaces/all-memory-locked"},
		{"mlockall(MCL_FUTURE) at RLIMIT_MEMLOCK", "refused `kernel`", live, "TestPlaces/all-memory-locked-to-its-limit"},
		{"address space at RLIMIT_AS", "refused `kernel`", live, "TestPlaces/address-space-at-its-limit"},
		{"no address space within 2 GiB", "refused `no-gap`", live, "TestPlaces/no-address-space-near"},
		{"memory cgroup at its limit", "refused `no-memory`, nothing killed", live, "TestMemoryLimit/full"},
		{"memory cgroup with just enough left", "patched, nothing killed", live, "TestMemoryLimit/just-enough"},
		{"the program maps memory where the overlay was to go", "patched elsewhere", live, "TestPlaceTaken"},
	}},
	{"Modules", []row{
		{"in two namespaces of the dynamic linker (dlmopen)", "both copies patched, one transaction", live, "TestCopies"},
		{"a second copy loaded after the patch", "patched on its own", live, "TestLaterCopy"},
		{"code copied over the mapping of its file, whole or in part", "patched, answers like the fixed build; removed, as before", live, "TestPlaces/code-copied"},
		{"mapped a second time by hand", "refused `no-module`", live, "TestPlaces/mapped-twice-by-hand"},
		{"unloaded by dlclose at any step", "refused `no-module`; loaded again, patched", live, "TestUnloaded"},
		{"unloaded and loaded again after the patch, the same or another build", "known as new", live, "TestReload"},
		{"two libraries, one transaction", "all or nothing", live, "TestTwoModules"},
		{"another build than the patch is for", "refused `no-module`", live, "TestOtherBuild"},
		{"musl", inAndOut, live, "TestPlaces/musl"},
		{"musl, static-pie", inAndOut, live, "TestPlaces/musl-static"},
	}},
	{"Others at work on the process", []row{
		{"gdb", "refused `already-traced`, named; gone, patched", live, "TestPlaces/gdb"},
		{"strace", "refused `already-traced`, named; gone, patched", live, "TestPlaces/strace"},
		{"any tracer", "refused `already-traced`, pid and name", live, "TestTraced"},
		{"uprobe at an entry", "refused `entry-changed`, bytes shown; gone, patched", live, "TestPlaces/uprobe"},
		{"another tool's jump at an entry", "refused `entry-changed`; over ours, seen by verify", live, "TestHook/jump"},
		{"breakpoint at an entry", "refused `entry-changed`; over ours, seen by verify", live, "TestHook/breakpoint"},
		{"a second hotpatch", "refused `locked`", engine, "TestLocked"},
	}},
	{"Processes that come and go", []row{
		{"executes another program at any step", "exited; the new program untouched, then patched", live, "TestExec"},
		{"exits, or is killed, at any step; a zombie", "exited", live, "TestExits"},
		{"child of fork, before and after", "has what its parent had; patched and removed alone", live, "TestForks"},
		{"CLONE_VM without CLONE_THREAD", "one target: patched, verified and rolled back by any of them", live, "TestSharedMemory/clone"},
		{"the same with CLONE_FILES, CLONE_SIGHAND, CLONE_FS", "the same", live, "TestSharedMemory/handlers"},
		{"one of those inside a changed function", "blocked, its pid and thread named", live, "TestSharedMemory/inside"},
		{"one of those traced", "refused `already-traced`", live, "TestSharedMemory/traced"},
		{"one of those executes another program at any step", "let go; the others patched", live, "TestSharedExec"},
		{"vfork", "waited for, then patched", live, "TestSharedMemory/vfork"},
		{"vfork, for longer than the deadline", "blocked, nothing changed", live, "TestSharedMemory/long-vfork"},
		{"vfork and posix_spawn all the time, 50 rounds", inAndOut, live, "TestSharedMemory/spawns"},
		{"main thread ended", "refused `main-thread-ended`", live, "TestMainEnded"},
		{"stopped by SIGSTOP", "stays stopped", processes, "TestStoppedStaysStopped"},
		{"threads that come and go all the time", inAndOut, live, "TestStorm"},
		{"hotpatch killed at any moment", "the next run finishes or undoes", engine, "TestKilledAnywhere"},
	}},
	{"Stacks", []row{
		{"swapcontext, a context asleep", "refused `stack-switching`", live, "TestPlaces/swapcontext"},
		{"swapcontext linked, no context made", inAndOut, live, "TestPlaces/swapcontext-unused"},
		{"stacks switched by the program's own assembly", "not recognised; new code stays for who sleeps in it", live, "TestSleepingCoroutine"},
		{"a thread inside a changed function, deep, below a signal handler", "blocked and named; patched when it leaves", live, "TestInside"},
		{"system calls of every kind under way", "carry on, no EINTR", live, "TestSystemCalls"},
		{"system calls that a signal is to end", "ended by it, with EINTR", live, "TestEndedBySignals"},
		{"a small alternate stack, almost full", "what lies below it is as it was", live, "TestSmallStack"},
	}},
}

// untested is what the kernel or the machine here cannot show.
var untested = []row{
	{name: "user shadow stacks (CET)", expect: "refused `kernel`, by x86_Thread_features in /proc/PID/status; needs CONFIG_X86_USER_SHADOW_STACK"},
	{name: "SELinux without execmem", expect: "code from a file with the module's label; the way is tested by force, that a policy allows it is not"},
	{name: "huge pages under file text", expect: "needs CONFIG_READ_ONLY_THP_FOR_FS"},
	{name: "memory cgroup of version 2 at its limit", expect: "refused `no-memory`; here memory is in a hierarchy of version 1, and the files of version 2 are read in a unit test"},
	{name: "proc_mem.force_override=never", expect: "a parameter at boot; a filter makes writes fail as it does"},
}
