// The virtio drivers of the built-in guest: a console and a socket device on PCI, virtio 1.2 with split rings.
//
// Only what a freestanding compiler needs stands here: no library, and no variable outside of the fixed memory below, so
// that the image stays flat code and constants. guest.S calls the functions that are not static, and keeps r15, which the
// compiler is told not to use. Each ring has one interrupt, that of the serial port's vector, which ends the HLT in idle;
// everything else is found by looking.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// guest.S
void c_puts(const char *s);
void c_dec(u64 n);
void idle(void);

#define SIZE 16 // entries of a ring

// Memory from DEVICES up to 2 MiB belongs to the drivers; layout.go has the first address.
#define DEVICES 0x110000
#define RINGS 0x120000   // 4 KiB for each ring
#define BUFFERS 0x130000 // 64 KiB for each ring: SIZE of 4 KiB
#define BUFFER 4096
#define ECHO 0x1a0000 // what is still to be sent back
#define ECHO_SIZE 0x40000

struct desc { u64 addr; u32 len; u16 flags, next; };
struct avail { u16 flags, idx, ring[SIZE]; };
struct used { u16 flags, idx; struct { u32 id, len; } ring[SIZE]; };

struct ring {
	volatile struct desc *desc;
	volatile struct avail *avail;
	volatile struct used *used;
	volatile u16 *doorbell;
	u8 *buffers;
	u16 seen; // used entries that were looked at
	u16 number;
};

struct device {
	volatile u8 *common, *config, *notify;
	u32 multiplier;
	struct ring ring[3];
};

struct header {
	u64 src_cid, dst_cid;
	u32 src_port, dst_port, len;
	u16 type, op;
	u32 flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { NO_RECEIVE = 1, NO_SEND = 2 };

struct state {
	int console, sockets; // there is one
	struct device con, vs;
	u8 *in; // input that was not read yet
	u32 in_left, in_id;
	u64 cid;
	int listening, connected, refused, ended; // of the one connection
	u32 port, peer, next_port;
	u32 sent, peer_alloc, peer_fwd; // credit of the host
	u32 taken;                      // what we have made room for again
	u32 head, fill;                 // of ECHO
	u64 echoed;
};

#define S ((struct state *)DEVICES)

static u32 r32(u64 a) { return *(volatile u32 *)a; }
static u16 r16(u64 a) { return *(volatile u16 *)a; }
static u8 r8(u64 a) { return *(volatile u8 *)a; }
static void w32(u64 a, u32 v) { *(volatile u32 *)a = v; }
static void w16(u64 a, u16 v) { *(volatile u16 *)a = v; }
static void w8(u64 a, u8 v) { *(volatile u8 *)a = v; }
static void barrier(void) { __asm__ volatile("lock orl $0, (%%rsp)" ::: "memory", "cc"); }

// copy goes by 8 bytes: each instruction takes long where KVM is a software one.
static void copy(u8 *to, const u8 *from, u32 n)
{
	u32 i = 0;
	for (; i + 8 <= n; i += 8)
		*(volatile u64 *)(to + i) = *(const u64 *)(from + i);
	for (; i < n; i++)
		((volatile u8 *)to)[i] = from[i];
}

// around copies n bytes between the ring of ECHO at a position and straight memory.
static void around(u32 at, u8 *straight, u32 n, int into)
{
	while (n) {
		u32 part = ECHO_SIZE - at % ECHO_SIZE;
		u8 *p = (u8 *)(u64)(ECHO + at % ECHO_SIZE);
		if (part > n)
			part = n;
		into ? copy(p, straight, part) : copy(straight, p, part);
		at += part, straight += part, n -= part;
	}
}

// offer gives a buffer to the device.
static void offer(struct ring *r, u16 id, u32 len, u16 flags)
{
	r->desc[id].addr = (u64)(r->buffers + id * BUFFER);
	r->desc[id].len = len;
	r->desc[id].flags = flags;
	r->avail->ring[r->avail->idx % SIZE] = id;
	barrier();
	r->avail->idx++;
	barrier();
}

static void kick(struct ring *r) { *r->doorbell = r->number; }

// setup puts a ring at its place; receive fills it with buffers.
static int setup(struct device *d, u16 n, u32 place, int receive)
{
	struct ring *r = &d->ring[n];
	u64 c = (u64)d->common, at = RINGS + place * 0x1000ull;
	for (u64 a = at; a < at + 0x1000; a += 8)
		*(volatile u64 *)a = 0;
	r->desc = (void *)at;
	r->avail = (void *)(at + 0x400);
	r->used = (void *)(at + 0x800);
	r->buffers = (u8 *)(u64)(BUFFERS + place * SIZE * BUFFER);
	r->seen = 0;
	r->number = n;
	w16(c + 22, n);
	if (r16(c + 24) < SIZE)
		return 0;
	w16(c + 24, SIZE);
	w16(c + 26, receive ? 0 : 0xffff);
	w32(c + 32, at), w32(c + 36, 0);
	w32(c + 40, at + 0x400), w32(c + 44, 0);
	w32(c + 48, at + 0x800), w32(c + 52, 0);
	r->doorbell = (void *)(d->notify + r16(c + 30) * d->multiplier);
	w16(c + 28, 1);
	for (u16 i = 0; receive && i < SIZE; i++)
		offer(r, i, BUFFER, 2);
	r->avail->flags = !receive; // nothing sent needs an interrupt
	return 1;
}

// probe finds the parts of a virtio function and starts its device up to its rings.
static int probe(struct device *d, u64 fn, u32 features, u32 apic)
{
	u64 bar = r32(fn + 0x10) & ~15u, msix = 0;
	d->common = d->config = d->notify = 0;
	for (u8 p = r8(fn + 0x34), n = 0; p && n < 48; p = r8(fn + p + 1), n++) {
		volatile u8 *at = (void *)(bar + r32(fn + p + 8));
		if (r8(fn + p) == 0x11)
			msix = fn + p;
		if (r8(fn + p) != 9 || r8(fn + p + 4) != 0)
			continue;
		switch (r8(fn + p + 3)) {
		case 1: d->common = at; break;
		case 2: d->notify = at, d->multiplier = r32(fn + p + 16); break;
		case 4: d->config = at; break;
		}
	}
	if (!d->common || !d->notify || !d->config || !msix || r32(msix + 4) & 7)
		return 0;
	w16(fn + 4, r16(fn + 4) | 6); // memory and bus master
	u64 entry = bar + r32(msix + 4);
	w32(entry, 0xfee00000 | apic << 12);
	w32(entry + 4, 0);
	w32(entry + 8, 0x30);
	w32(entry + 12, 0);
	w16(msix + 2, (r16(msix + 2) & ~0x4000) | 0x8000);

	u64 c = (u64)d->common;
	w8(c + 20, 0);
	for (u32 i = 0; i < 1000000 && r8(c + 20); i++)
		;
	w8(c + 20, 1);
	w8(c + 20, 3);
	w32(c, 0);
	features &= r32(c + 4);
	w32(c + 8, 0), w32(c + 12, features);
	w32(c + 8, 1), w32(c + 12, 1); // VIRTIO_F_VERSION_1
	w8(c + 20, 11);
	w16(c + 16, 0xffff);
	return (r8(c + 20) & 8) != 0;
}

// devices_init finds the devices behind the configuration space at ecam, if there is one.
void devices_init(u64 ecam, u32 apic)
{
	for (u64 a = DEVICES; a < DEVICES + sizeof(struct state); a += 8)
		*(volatile u64 *)a = 0;
	S->next_port = 1024;
	for (u64 slot = 0; ecam && slot < 32; slot++) {
		u64 fn = ecam + (slot << 15);
		u32 id = r32(fn);
		if (id == 0x10431af4 && !S->console && probe(&S->con, fn, 1, apic) &&
		    setup(&S->con, 0, 0, 1) && setup(&S->con, 1, 1, 0)) {
			w8((u64)S->con.common + 20, 15);
			kick(&S->con.ring[0]);
			S->console = 1;
		}
		if (id == 0x10531af4 && !S->sockets && probe(&S->vs, fn, 0, apic) &&
		    setup(&S->vs, 0, 2, 1) && setup(&S->vs, 1, 3, 0) && setup(&S->vs, 2, 4, 1)) {
			w8((u64)S->vs.common + 20, 15);
			kick(&S->vs.ring[0]);
			S->cid = r32((u64)S->vs.config) | (u64)r32((u64)S->vs.config + 4) << 32;
			S->sockets = 1;
		}
	}
}

// send has the device take the first buffer of a ring and waits until it has.
static void send(struct ring *r, u32 len)
{
	offer(r, 0, len, 0);
	kick(r);
	while (r->used->idx == r->seen)
		__asm__ volatile("pause");
	r->seen = r->used->idx;
	barrier();
}

// received gives the next buffer that the device has filled, or 0.
static u8 *received(struct ring *r, u32 *id, u32 *len)
{
	if (r->used->idx == r->seen)
		return 0;
	barrier();
	*id = r->used->ring[r->seen % SIZE].id % SIZE;
	*len = r->used->ring[r->seen % SIZE].len;
	if (*len > BUFFER)
		*len = BUFFER;
	r->seen++;
	return r->buffers + *id * BUFFER;
}

static void again(struct ring *r, u32 id)
{
	offer(r, id, BUFFER, 2);
	kick(r);
}

// console_put sends a character on the virtio console and says 0 if there is none.
int console_put(int c)
{
	if (!S->console)
		return 0;
	S->con.ring[1].buffers[0] = c;
	send(&S->con.ring[1], 1);
	return 1;
}

// console_get gives a character of the virtio console: -1 if none has come, -2 if there is no such console.
int console_get(void)
{
	if (!S->console)
		return -2;
	if (S->in && !S->in_left) {
		S->in = 0;
		again(&S->con.ring[0], S->in_id);
	}
	if (!S->in)
		S->in = received(&S->con.ring[0], &S->in_id, &S->in_left);
	if (!S->in || !S->in_left)
		return -1;
	S->in_left--;
	return *S->in++;
}

// packet sends one to the host, with n bytes that lie behind the header already.
static void packet(u16 op, u32 flags, u32 from, u32 to, u32 n)
{
	struct ring *r = &S->vs.ring[1];
	struct header h = {S->cid, 2, from, to, n, 1, op, flags, ECHO_SIZE, S->taken};
	copy(r->buffers, (u8 *)&h, sizeof h);
	send(r, sizeof h + n);
}

// store keeps what the host has sent, as far as the credit that it was given reaches.
static void store(u8 *from, u32 n)
{
	if (n > ECHO_SIZE - S->fill)
		n = ECHO_SIZE - S->fill;
	around(S->head + S->fill, from, n, 1);
	S->fill += n;
}

// obey is what a packet of the host brings about.
static void obey(struct header *h, u8 *data, u32 n)
{
	int ours = S->connected && h->dst_port == S->port && h->src_port == S->peer;
	if (h->type != 1 || h->dst_cid != S->cid)
		return;
	if (h->op == REQUEST && S->listening && h->dst_port == S->port) {
		S->peer = h->src_port;
		S->listening = 0;
		S->connected = ours = 1;
		packet(RESPONSE, 0, S->port, S->peer, 0);
	} else if (!ours) {
		if (h->op != RST)
			packet(RST, 0, h->dst_port, h->src_port, 0);
		return;
	}
	S->peer_alloc = h->buf_alloc;
	S->peer_fwd = h->fwd_cnt;
	switch (h->op) {
	case RESPONSE: S->refused = 0; break;
	case RST: S->connected = 0, S->ended = 1; break;
	case SHUTDOWN:
		if (h->flags & NO_SEND)
			S->ended = 1;
		break;
	case RW: store(data, n); break;
	case CREDIT_REQUEST: packet(CREDIT_UPDATE, 0, S->port, S->peer, 0); break;
	}
}

// devices_poll takes what the host has sent to the socket device.
void devices_poll(void)
{
	u32 id, len;
	u8 *p;
	if (!S->sockets)
		return;
	while ((p = received(&S->vs.ring[0], &id, &len))) {
		struct header h;
		copy((u8 *)&h, p, sizeof h);
		if (len >= sizeof h)
			obey(&h, p + sizeof h, h.len < len - sizeof h ? h.len : len - sizeof h);
		again(&S->vs.ring[0], id);
	}
	while ((p = received(&S->vs.ring[2], &id, &len)))
		again(&S->vs.ring[2], id);
}

// pass sends back what was received, as much as the host has room for.
static void pass(void)
{
	u8 *to = S->vs.ring[1].buffers + sizeof(struct header);
	for (;;) {
		u32 n = S->peer_alloc - (S->sent - S->peer_fwd);
		if (n > S->fill)
			n = S->fill;
		if (n > BUFFER - sizeof(struct header))
			n = BUFFER - sizeof(struct header);
		if (!n || !S->connected)
			return;
		around(S->head, to, n, 0);
		S->head = (S->head + n) % ECHO_SIZE;
		S->fill -= n;
		S->taken += n;
		S->sent += n;
		S->echoed += n;
		packet(RW, 0, S->port, S->peer, n);
	}
}

static void begin(u32 port)
{
	S->port = port;
	S->connected = S->ended = S->listening = 0;
	S->sent = S->peer_alloc = S->peer_fwd = S->taken = S->head = S->fill = 0;
	S->echoed = 0;
}

// finish closes both directions and waits until the host has taken note of it.
static void finish(void)
{
	if (S->connected)
		packet(SHUTDOWN, NO_RECEIVE | NO_SEND, S->port, S->peer, 0);
	while (S->connected) {
		devices_poll();
		if (S->connected)
			idle();
	}
}

// number reads the decimal number at s and moves s behind it and one space.
static u32 number(const char **s)
{
	u64 n = 0;
	for (; **s >= '0' && **s <= '9'; (*s)++)
		n = n * 10 + (**s - '0');
	if (**s == ' ')
		(*s)++;
	return n;
}

static int missing(void)
{
	if (!S->sockets)
		c_puts("error: no socket device\n");
	return !S->sockets;
}

void vsock_serve(const char *args)
{
	if (missing())
		return;
	begin(number(&args));
	S->listening = 1;
	c_puts("listening\n");
	while (!(S->ended && (!S->fill || !S->connected))) {
		devices_poll();
		pass();
		if (!(S->ended && (!S->fill || !S->connected)))
			idle();
	}
	finish();
	c_puts("echoed ");
	c_dec(S->echoed);
	c_puts("\n");
}

void vsock_send(const char *args)
{
	if (missing())
		return;
	begin(S->next_port++);
	S->peer = number(&args);
	S->connected = S->refused = 1;
	packet(REQUEST, 0, S->port, S->peer, 0);
	while (S->refused && !S->ended) {
		devices_poll();
		if (S->refused && !S->ended)
			idle();
	}
	if (S->refused) {
		c_puts("error: connection refused\n");
		return;
	}
	u32 n = 0;
	for (; args[n] && n < 255; n++)
		S->vs.ring[1].buffers[sizeof(struct header) + n] = args[n];
	packet(RW, 0, S->port, S->peer, n);
	packet(SHUTDOWN, NO_SEND, S->port, S->peer, 0);
	while (!S->ended) {
		devices_poll();
		if (!S->ended)
			idle();
	}
	finish();
	((char *)ECHO)[S->fill < 255 ? S->fill : 255] = 0;
	c_puts("answered ");
	c_puts((char *)ECHO);
	c_puts("\n");
}

// size prints the columns and rows of the virtio console's terminal.
void console_size(void)
{
	u64 at = (u64)S->con.config;
	c_dec(S->console ? r16(at) : 0);
	c_puts(" ");
	c_dec(S->console ? r16(at + 2) : 0);
	c_puts("\n");
}
