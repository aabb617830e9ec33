// The reference that our libvirt client is measured against: libvirt's own C library, on the same daemon.
//
//	calls URI DOMAIN
//
// Each line on standard input is the name of a call, a number of threads, which share the one connection, and how often each
// of them is to make the call: "state 16 500". The answer is a line with the nanoseconds that all of it took.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

enum { MAX_THREADS = 256 };

static virConnectPtr conn;
static virDomainPtr domain;
static const char *name;

static void fail(const char *what)
{
	const char *why = virGetLastErrorMessage();
	fprintf(stderr, "calls: %s: %s\n", what, why);
	exit(1);
}

static int get_state(void)
{
	int state, reason;
	return virDomainGetState(domain, &state, &reason, 0);
}

static int get_info(void)
{
	virDomainInfo info;
	return virDomainGetInfo(domain, &info);
}

static int look_up(void)
{
	virDomainPtr d = virDomainLookupByName(conn, name);
	return d ? virDomainFree(d) : -1;
}

static const struct {
	const char *name;
	int (*call)(void);
} calls[] = { { "state", get_state }, { "info", get_info }, { "lookup", look_up } };

struct work {
	const char *name;
	int (*call)(void);
	unsigned long count;
	pthread_barrier_t start;
};

static void repeat(const struct work *w)
{
	for (unsigned long i = 0; i < w->count; i++)
		if (w->call() < 0)
			fail(w->name);
}

static void *run(void *arg)
{
	struct work *w = arg;
	pthread_barrier_wait(&w->start);
	repeat(w);
	return NULL;
}

static void check(int err, const char *what)
{
	if (err) {
		fprintf(stderr, "calls: %s: %s\n", what, strerror(err));
		exit(1);
	}
}

static uint64_t now(void)
{
	struct timespec t;
	check(clock_gettime(CLOCK_MONOTONIC, &t) ? errno : 0, "clock_gettime");
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t measure(struct work *w, unsigned threads)
{
	if (threads == 1) {
		uint64_t start = now();
		repeat(w);
		return now() - start;
	}
	pthread_t thread[MAX_THREADS];
	check(pthread_barrier_init(&w->start, NULL, threads + 1), "pthread_barrier_init");
	for (unsigned i = 0; i < threads; i++)
		check(pthread_create(&thread[i], NULL, run, w), "pthread_create");
	uint64_t start = now();
	pthread_barrier_wait(&w->start);
	for (unsigned i = 0; i < threads; i++)
		check(pthread_join(thread[i], NULL), "pthread_join");
	uint64_t took = now() - start;
	check(pthread_barrier_destroy(&w->start), "pthread_barrier_destroy");
	return took;
}

static void quiet(void *data, virErrorPtr err)
{
	(void)data;
	(void)err; // it is told by fail
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: calls URI DOMAIN\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN); // a lost daemon is an error like others
	virSetErrorFunc(NULL, quiet);
	if (virInitialize() < 0 || !(conn = virConnectOpen(argv[1])))
		fail(argv[1]);
	name = argv[2];
	if (!(domain = virDomainLookupByName(conn, name)))
		fail(name);

	char op[16];
	unsigned threads;
	unsigned long count;
	int n;
	while ((n = scanf("%15s %u %lu", op, &threads, &count)) == 3) {
		struct work w = { .name = op, .count = count };
		for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
			if (!strcmp(op, calls[i].name))
				w.call = calls[i].call;
		if (!w.call || threads < 1 || threads > MAX_THREADS) {
			fprintf(stderr, "calls: bad line: %s %u %lu\n", op, threads, count);
			return 2;
		}
		printf("%llu\n", (unsigned long long)measure(&w, threads));
		fflush(stdout);
	}
	if (n != EOF) {
		fprintf(stderr, "calls: bad line\n");
		return 2;
	}
	virDomainFree(domain);
	virConnectClose(conn);
	return 0;
}
