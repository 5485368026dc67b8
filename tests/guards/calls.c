/* Makes calls that a build may make and calls that it may not; prints what came of each. With an argument only
   what a user who is not root is to see. Compiled by tests/suite/confinement.rs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VSOCK 40
#define AUDIT 9

static void tell(const char *name, long result)
{
	printf("%s: %s\n", name, result < 0 ? strerrorname_np(errno) : "allowed");
}

/* The gate of 32-bit programs, which a 64-bit one can use as well. */
static long old_gate(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	if (result < 0 && result > -4096) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

/* Where that gate can read: below four gigabytes. */
static volatile uint32_t *arguments;

static long socketcall(int family, int type, int protocol)
{
	arguments[0] = family;
	arguments[1] = type;
	arguments[2] = protocol;
	return old_gate(102, 1, (long)arguments, 0);
}

static void sockets(void)
{
	tell("unix", socket(AF_UNIX, SOCK_STREAM, 0));
	tell("routes", socket(AF_NETLINK, SOCK_RAW, 0));
	tell("vsock", socket(VSOCK, SOCK_STREAM, 0));
	tell("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
	tell("tipc", socket(AF_TIPC, SOCK_STREAM, 0));
	tell("qipcrtr", socket(42, SOCK_DGRAM, 0));
	tell("audit", socket(AF_NETLINK, SOCK_RAW, AUDIT));
	tell("old vsock", old_gate(359, VSOCK, SOCK_STREAM, 0));
	tell("old audit", old_gate(359, AF_NETLINK, SOCK_RAW, AUDIT));
	tell("call of vsock", socketcall(VSOCK, SOCK_STREAM, 0));
	tell("call of audit", socketcall(AF_NETLINK, SOCK_RAW, AUDIT));
	tell("call of nothing", old_gate(102, 1, 8, 0));
}

/* What is asked for lies in memory that somebody else writes to meanwhile. */
static atomic_int is_over;

static void *change(void *nothing)
{
	while (!is_over)
		arguments[0] = arguments[0] == VSOCK ? AF_INET : VSOCK;
	return nothing;
}

static void race(void)
{
	pthread_t other;
	int made = 0, wrong = 0;
	pthread_create(&other, 0, change, 0);
	for (int i = 0; i < 300; i++) {
		int domain = 0, fd = socketcall(AF_INET, SOCK_STREAM, 0);
		socklen_t length = sizeof domain;
		if (fd < 0)
			continue;
		made++;
		wrong += getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) || domain != AF_INET;
		close(fd);
	}
	is_over = 1;
	pthread_join(other, 0);
	printf("race: %s\n", made && !wrong ? "none but what was judged" : "lost");
}

/* A whole conversation over a socket that PID 1 has made, with what is asked for by bits of its kind. */
static void conversation(void)
{
	int fd = socketcall(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char byte;
	tell("call of unix", fd);
	printf("bits: %d %d\n", fcntl(fd, 1), !!(fcntl(fd, 3) & 04000));
	tell("nothing to read", recv(fd, &byte, 1, 0));
	tell("call of inet", socketcall(AF_INET, SOCK_STREAM, 0));
}

static void others(void)
{
	static const struct {
		const char *name;
		long number;
	} calls[] = {
	    {"quotactl_fd", 443}, {"mbind", 237}, {"set_mempolicy", 238}, {"lsm_list_modules", 461},
	    {"statmount", 457}, {"listmount", 458}, {"kcmp", 312}, {"process_madvise", 440},
	    {"pidfd_getfd", 438}, {"fanotify_init", 300}, {"syslog", 103}, {"swapon", 167},
	    {"file_getattr", 468}, {"a call to come", 500}, {"another", 9999},
	};
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		tell(calls[i].name, syscall(calls[i].number, -1, -1, -1, -1, -1, -1));
	tell("old call to come", old_gate(500, 0, 0, 0));
	tell("old nice", old_gate(34, 0, 0, 0));
	tell("no random addresses", personality(ADDR_NO_RANDOMIZE));
	tell("as 32-bit", personality(PER_LINUX32));
	tell("unshared files", syscall(SYS_unshare, 0x400));
	tell("traced", ptrace(PTRACE_TRACEME, 0, 0, 0));
}

int main(int argc, char **argv)
{
	setvbuf(stdout, 0, _IONBF, 0);
	arguments = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (argc > 1) {
		conversation();
		/* As a program that has changed its user is. */
		prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		tell("hidden: call of inet", socketcall(AF_INET, SOCK_STREAM, 0));
		tell("call of raw", socketcall(AF_INET, SOCK_RAW, 1));
		tell("call of vsock", socketcall(VSOCK, SOCK_STREAM, 0));
		return 0;
	}
	sockets();
	conversation();
	race();
	others();
	return 0;
}
