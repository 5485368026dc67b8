/* Tries what a container must refuse; prints what came of each. Compiled by tests/suite/guards.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *name, long result)
{
	printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "allowed");
}

/* The gate of 32-bit programs, which a 64-bit one can use as well. */
static long old_gate(long number, long argument)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument) : "memory");
	if (result < 0 && result > -4096) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

/* The classic way out of a chroot: a directory held open outside of a second one. */
static int escape(const char *marker)
{
	int outside = open("/", O_RDONLY | O_DIRECTORY);
	if (mkdir("/tmp/jail", 0700) || chroot("/tmp/jail") || fchdir(outside))
		return -1;
	for (int i = 0; i < 64; i++)
		if (chdir(".."))
			return -1;
	if (chroot("."))
		return -1;
	return access(marker, F_OK) == 0;
}

/* A socket without a place, of somebody outside. */
static long call_outside(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path + 1, name);
	return connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&address,
		       offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

int main(int argc, char **argv)
{
	char zeros[128] = {0};
	tell("unshare", syscall(SYS_unshare, 0x10000000));
	tell("clone3", syscall(SYS_clone3, zeros, 64));
	tell("setns", syscall(SYS_setns, 0, 0));
	tell("mount", syscall(SYS_mount, "x", "/tmp", "tmpfs", 0, 0));
	tell("keyctl", syscall(SYS_keyctl, 0, -3, 1));
	tell("bpf", syscall(SYS_bpf, 0, zeros, sizeof zeros));
	tell("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
	tell("userfaultfd", syscall(SYS_userfaultfd, 0));
	tell("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, zeros, 0));
	tell("io_uring_setup", syscall(SYS_io_uring_setup, 1, zeros));
	tell("old unshare", old_gate(310, 0x10000000));
	tell("old mount", old_gate(21, 0));
	tell("old getpid", old_gate(20, 0));
	tell("x32 getpid", syscall(0x40000000 + 39));
	if (argc > 2)
		tell("abstract socket", call_outside(argv[2]));
	printf("escape %d\n", argc > 1 ? escape(argv[1]) : -1);
	return 0;
}
