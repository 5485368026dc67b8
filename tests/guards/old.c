/* What programs of 32 bits do every day, by the C library's own ways. Compiled in a build by
   tests/suite/programs.rs. */
#define _FILE_OFFSET_BITS 64
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MUST(what) \
	do { \
		if (!(what)) { \
			perror(#what); \
			exit(1); \
		} \
	} while (0)

static void *served(void *listener)
{
	int fd = accept(*(int *)listener, 0, 0);
	MUST(fd >= 0 && send(fd, "hello", 5, 0) == 5);
	close(fd);
	return 0;
}

/* A listener, a thread that serves it, and who calls. */
static void talk(int family, struct sockaddr *address, socklen_t length)
{
	char text[8] = {0};
	pthread_t server;
	int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), caller = socket(family, SOCK_STREAM, 0);
	MUST(listener >= 0 && caller >= 0);
	MUST(!bind(listener, address, length) && !listen(listener, 4));
	MUST(!getsockname(listener, address, &length));
	MUST(!pthread_create(&server, 0, served, &listener));
	MUST(!connect(caller, address, length));
	MUST(recv(caller, text, 5, MSG_WAITALL) == 5 && !strcmp(text, "hello"));
	pthread_join(server, 0);
	close(listener);
	close(caller);
}

static void sockets(void)
{
	struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/old.sock"};
	struct addrinfo *found;
	talk(AF_INET, (void *)&inet, sizeof inet);
	talk(AF_UNIX, (void *)&local, sizeof local);
	MUST(!getaddrinfo("localhost", "80", 0, &found));
}

static void files(void)
{
	struct stat facts;
	int fd = open("/tmp/large", O_RDWR | O_CREAT, 0600);
	MUST(fd >= 0 && pwrite(fd, "x", 1, 5LL << 30) == 1);
	MUST(!fstat(fd, &facts) && facts.st_size == (5LL << 30) + 1);
	MUST(mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 5LL << 30) != MAP_FAILED);
	unlink("/tmp/large");
}

int main(void)
{
	int status, set = semget(IPC_PRIVATE, 1, 0600);
	struct timespec now;
	struct epoll_event event;
	MUST(sizeof(void *) == 4);
	sockets();
	files();
	MUST(set >= 0 && !semctl(set, 0, IPC_RMID));
	MUST(!clock_gettime(CLOCK_MONOTONIC, &now));
	MUST(epoll_wait(epoll_create1(0), &event, 1, 1) == 0);
	if (!fork())
		execl("/bin/sh", "sh", "-c", "exit 7", (char *)0);
	MUST(wait(&status) > 0 && WEXITSTATUS(status) == 7);
	puts("all well");
	return 0;
}
