// The reference that virtqueues are measured against: a split ring, from the device's side, with the checks that a device
// owes itself. Each request is one buffer; it is taken from the available ring, its descriptor is read once, its address is
// looked up in a table of memory regions, and it is given back in the used ring. A driver in the same thread makes the same request
// available again and again.
//
// Each line on standard input is a number of requests; the answer is a line with the nanoseconds they took, by the wall
// clock and by the thread's processor time.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>

enum { SIZE = 256, MASK = SIZE - 1, NEXT = 1, WRITE = 2, INDIRECT = 4, MAX_SEGMENTS = 64 };
static const uint64_t MEMORY = 16 << 20, MAX_BYTES = 0xffffffff;

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct avail {
	uint16_t flags, index, ring[SIZE], used_event;
};
struct used {
	uint16_t flags, index;
	struct {
		uint32_t id, len;
	} ring[SIZE];
	uint16_t avail_event;
};

struct region {
	uint64_t addr, size;
	uint8_t *host;
};

struct queue {
	struct region *regions;
	int count;
	volatile struct desc *desc;
	volatile struct avail *avail;
	volatile struct used *used;
	uint16_t next_avail, next_used, in_flight;
	uint32_t added;
};

struct chain {
	struct iovec readable[MAX_SEGMENTS], writable[MAX_SEGMENTS];
	int readables, writables;
	uint64_t to_read, to_write;
	uint16_t head;
};

static uint8_t *slice(const struct queue *q, uint64_t addr, uint64_t n)
{
	for (int i = 0; i < q->count; i++) {
		const struct region *r = &q->regions[i];
		uint64_t off = addr - r->addr;
		if (off < r->size && n <= r->size - off)
			return r->host + off;
	}
	return NULL;
}

// pop gives 1 for a request, 0 for none and -1 for one that is wrong.
static int pop(struct queue *q, struct chain *c)
{
	c->readables = c->writables = 0;
	c->to_read = c->to_write = 0;
	uint16_t waiting = __atomic_load_n(&q->avail->index, __ATOMIC_ACQUIRE) - q->next_avail;
	if (waiting == 0)
		return 0;
	if (waiting > SIZE || q->in_flight == SIZE)
		return -1;
	uint16_t i = q->avail->ring[q->next_avail & MASK];
	if (i > MASK)
		return -1;
	q->next_avail++;
	q->in_flight++;
	c->head = i;
	for (int n = 1;; n++) {
		if (n > MAX_SEGMENTS)
			return -1;
		volatile struct desc *d = &q->desc[i];
		uint64_t addr = d->addr;
		uint32_t len = d->len;
		uint16_t flags = d->flags, next = d->next;
		if (flags & INDIRECT || (!(flags & WRITE) && c->writables) || c->to_read + c->to_write + len > MAX_BYTES)
			return -1;
		uint8_t *host = slice(q, addr, len);
		if (!host)
			return -1;
		if (flags & WRITE) {
			c->writable[c->writables++] = (struct iovec){ host, len };
			c->to_write += len;
		} else {
			c->readable[c->readables++] = (struct iovec){ host, len };
			c->to_read += len;
		}
		if (!(flags & NEXT))
			return 1;
		if (next > MASK)
			return -1;
		i = next;
	}
}

static void push(struct queue *q, struct chain *c, uint32_t written)
{
	if (written > c->to_write)
		written = c->to_write;
	uint16_t at = q->next_used++ & MASK;
	q->used->ring[at].id = c->head;
	q->used->ring[at].len = written;
	q->in_flight--;
	q->added++;
	__atomic_store_n(&q->used->index, q->next_used, __ATOMIC_RELEASE);
}

static uint64_t now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 1) {
		fprintf(stderr, "usage: %s < NUMBERS\n", argv[0]);
		return 2;
	}
	uint8_t *mem = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED) {
		perror("virtq: mmap");
		return 1;
	}
	struct region regions[] = { { 0, MEMORY, mem }, { 4ull << 30, 0, NULL } };
	struct queue q = { .regions = regions, .count = 2, .desc = (void *)(mem + 0x100000), .avail = (void *)(mem + 0x101000), .used = (void *)(mem + 0x101240) };
	q.desc[0].addr = 0x200000;
	q.desc[0].len = 4096;
	q.desc[0].flags = WRITE;
	static struct chain c;
	unsigned long requests;
	uint16_t offered = 0;
	while (scanf("%lu", &requests) == 1) {
		uint64_t wall = now(CLOCK_MONOTONIC), cputime = now(CLOCK_THREAD_CPUTIME_ID);
		for (unsigned long i = 0; i < requests; i++) {
			q.avail->ring[offered++ & MASK] = 0;
			__atomic_store_n(&q.avail->index, offered, __ATOMIC_RELEASE);
			if (pop(&q, &c) != 1) {
				fprintf(stderr, "virtq: no request\n");
				return 1;
			}
			// What a device does with chain and queue, the compiler does not know.
			__asm__ volatile("" : : "r"(&c), "r"(&q) : "memory");
			push(&q, &c, 1);
		}
		cputime = now(CLOCK_THREAD_CPUTIME_ID) - cputime;
		wall = now(CLOCK_MONOTONIC) - wall;
		printf("%llu %llu\n", (unsigned long long)wall, (unsigned long long)cputime);
		fflush(stdout);
	}
	return 0;
}
