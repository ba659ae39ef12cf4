/*
 * sessiond keeps sessions for clients that speak lines over loopback TCP:
 *
 *   LOGIN name secret   OK name            starts a session
 *   COUNT               OK n               n counts this session's COUNTs
 *   ECHO n text         OK n, then n bytes  sends text back, a sign of life
 *   STAT                OK sessions requests
 *   QUIT                                   ends the connection
 *
 * Its bug is a real one, of the kind that was Heartbleed: ECHO believes the
 * length that the client gives. Sessions lie one after the other in memory, so
 * whoever asks for more bytes than were sent gets the next session's secret.
 * Compiled with -DFIXED the length is checked.
 *
 * One thread accepts, WORKERS threads answer, one keeps house.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	SESSIONS = 1024,
	WORKERS = 6,
	INPUT = 256,
	OUTPUT = 1024,
	IDLE_SECONDS = 600,
};

struct session {
	int fd; /* -1 when the slot is free */
	unsigned count;
	_Atomic unsigned long requests;
	_Atomic time_t seen;
	char name[16];
	char secret[40];
	size_t have; /* bytes in input */
	char input[INPUT];
};

static struct session sessions[SESSIONS];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned long total_requests;
static _Atomic unsigned live_sessions;
static int poller;

struct answer {
	size_t len;
	char bytes[OUTPUT];
};

static void say(struct answer *a, const char *text)
{
	a->len = (size_t)snprintf(a->bytes, sizeof a->bytes, "%s\n", text);
}

static int login(struct session *s, char *args, struct answer *a)
{
	char name[sizeof s->name], secret[sizeof s->secret];
	if (sscanf(args, "%15s %39s", name, secret) != 2) {
		say(a, "ERR name and secret, please");
		return 0;
	}
	memcpy(s->name, name, sizeof name);
	memcpy(s->secret, secret, sizeof secret);
	a->len = (size_t)snprintf(a->bytes, sizeof a->bytes, "OK %s\n", s->name);
	return 0;
}

static int count(struct session *s, char *args, struct answer *a)
{
	(void)args;
	s->count++;
	a->len = (size_t)snprintf(a->bytes, sizeof a->bytes, "OK %u\n", s->count);
	return 0;
}

#ifdef FIXED
static __attribute__((noinline)) int refuse(struct session *s, size_t asked, size_t sent, struct answer *a)
{
	a->len = (size_t)snprintf(a->bytes, sizeof a->bytes,
				  "ERR %s asks for %zu bytes and sent %zu\n", s->name, asked, sent);
	return 0;
}

static int echo(struct session *s, char *args, struct answer *a)
{
	char *text;
	size_t n = strtoul(args, &text, 10);
	if (*text == ' ')
		text++;
	if (n > strlen(text))
		return refuse(s, n, strlen(text), a);
	if (n > OUTPUT - 64)
		n = OUTPUT - 64;
	size_t head = (size_t)snprintf(a->bytes, sizeof a->bytes, "OK %zu\n", n);
	memcpy(a->bytes + head, text, n);
	a->bytes[head + n] = '\n';
	a->len = head + n + 1;
	return 0;
}
#else
static int echo(struct session *s, char *args, struct answer *a)
{
	char *text;
	size_t n = strtoul(args, &text, 10);
	(void)s;
	if (*text == ' ')
		text++;
	if (n > OUTPUT - 64)
		n = OUTPUT - 64;
	size_t head = (size_t)snprintf(a->bytes, sizeof a->bytes, "OK %zu\n", n);
	memcpy(a->bytes + head, text, n);
	a->bytes[head + n] = '\n';
	a->len = head + n + 1;
	return 0;
}
#endif

static int statistics(struct session *s, char *args, struct answer *a)
{
	(void)s;
	(void)args;
	a->len = (size_t)snprintf(a->bytes, sizeof a->bytes, "OK %u %lu\n",
				  live_sessions, total_requests);
	return 0;
}

static int quit(struct session *s, char *args, struct answer *a)
{
	(void)args;
	(void)s;
	a->len = 0;
	return -1;
}

static const struct command {
	const char *word;
	int (*run)(struct session *, char *, struct answer *); /* -1 ends the connection */
} commands[] = {
	{"LOGIN", login}, {"COUNT", count}, {"ECHO", echo}, {"STAT", statistics}, {"QUIT", quit},
};

static int answer_line(struct session *s, char *line, struct answer *a)
{
	size_t word = strcspn(line, " ");
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		const struct command *c = &commands[i];
		if (strlen(c->word) == word && memcmp(c->word, line, word) == 0)
			return c->run(s, line + word + (line[word] == ' '), a);
	}
	say(a, "ERR no such command");
	return 0;
}

static int send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* serve reads what has come and answers every whole line of it. */
static int serve(struct session *s)
{
	ssize_t n = recv(s->fd, s->input + s->have, INPUT - 1 - s->have, 0);
	if (n < 0 && errno == EINTR)
		return 0;
	if (n <= 0)
		return -1;
	s->have += (size_t)n;
	for (;;) {
		char *end = memchr(s->input, '\n', s->have);
		if (!end)
			return s->have == INPUT - 1 ? -1 : 0;
		*end = 0;
		struct answer a;
		s->requests++;
		total_requests++;
		s->seen = time(NULL);
		if (answer_line(s, s->input, &a) != 0 || send_all(s->fd, a.bytes, a.len) != 0)
			return -1;
		s->have -= (size_t)(end + 1 - s->input);
		memmove(s->input, end + 1, s->have);
	}
}

static void end_session(struct session *s)
{
	int fd = s->fd;
	pthread_mutex_lock(&table);
	memset(s->secret, 0, sizeof s->secret);
	s->fd = -1;
	live_sessions--;
	pthread_mutex_unlock(&table);
	close(fd);
}

static void *worker(void *unused)
{
	for (;;) {
		struct epoll_event e;
		if (epoll_wait(poller, &e, 1, -1) != 1)
			continue;
		struct session *s = e.data.ptr;
		if (serve(s) != 0) {
			end_session(s);
			continue;
		}
		e.events = EPOLLIN | EPOLLONESHOT;
		epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &e);
	}
	return unused;
}

/* housekeeper ends sessions that nobody has used for long. */
static void *housekeeper(void *unused)
{
	struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	for (;;) {
		nanosleep(&pause, NULL);
		time_t now = time(NULL);
		pthread_mutex_lock(&table);
		for (int i = 0; i < SESSIONS; i++)
			if (sessions[i].fd >= 0 && now - sessions[i].seen > IDLE_SECONDS)
				shutdown(sessions[i].fd, SHUT_RDWR);
		pthread_mutex_unlock(&table);
	}
	return unused;
}

static void start_session(int fd)
{
	struct session *s = NULL;
	pthread_mutex_lock(&table);
	for (int i = 0; i < SESSIONS && !s; i++)
		if (sessions[i].fd < 0)
			s = &sessions[i];
	if (s) {
		memset(s, 0, sizeof *s);
		s->fd = fd;
		s->seen = time(NULL);
		live_sessions++;
	}
	pthread_mutex_unlock(&table);
	struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = s};
	if (!s || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0) {
		if (s)
			end_session(s);
		else
			close(fd);
	}
}

static void start_thread(void *(*run)(void *))
{
	pthread_t t;
	if (pthread_create(&t, NULL, run, NULL) != 0) {
		perror("pthread_create");
		exit(1);
	}
}

int main(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof at;
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, size) != 0 ||
	    listen(listener, 256) != 0 || getsockname(listener, (struct sockaddr *)&at, &size) != 0) {
		perror("listen");
		return 1;
	}
	for (int i = 0; i < SESSIONS; i++)
		sessions[i].fd = -1;
	poller = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < WORKERS; i++)
		start_thread(worker);
	start_thread(housekeeper);
	printf("listening on %s:%d\n", inet_ntoa(at.sin_addr), ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		start_session(fd);
	}
}
