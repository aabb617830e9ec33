//go:build linux

package vsock

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// still is a device without goroutines: a test takes its steps.
type still struct {
	*Device
	started chan struct{}
}

func (s *still) Start(r *virtio.Run) (err error) {
	s.poller, err = newPoller()
	s.rx, s.tx = r.Queues[rxQueue], r.Queues[txQueue]
	close(s.started)
	return err
}

// bare is such a device with the driver's side.
type bare struct {
	*guest
	d *Device
}

func newBare(t testing.TB, cfg Config, o virtiotest.Options) *bare {
	cfg.CID = guestCID
	d, err := New(cfg)
	require.NoError(t, err)
	s := &still{d, make(chan struct{})}
	o.Features = featureStream
	if o.Memory == 0 {
		o.Memory = 16 << 20
	}
	g := &guest{t: t, h: virtiotest.Start(t, s, o), dev: d, bufferLen: 4096, alloc: 256 << 10}
	<-s.started
	for i := range 2 {
		g.h.Queue(i).WantInterrupts(false)
	}
	return &bare{g, d}
}

// events handles those that have come.
func (b *bare) events(t testing.TB) int {
	p := b.d.poller
	n, err := unix.EpollWait(p.fd, p.events[:], 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		b.d.event(&p.events[i])
	}
	return n
}

// Data costs no allocation, in either direction, nor does a stalled program.
func TestAllocatesNothing(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {EventIdx: true}} {
		var program int
		b := newBare(t, Config{Connect: func(uint32) (int, error) {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			program = fds[1]
			return fds[0], err
		}}, o)
		b.give(4)
		send := func(op operation, data []byte) uint16 {
			h := header{srcCID: guestCID, dstCID: hostCID, srcPort: 1, dstPort: 2, length: uint32(len(data)), kind: streamType, op: op, alloc: 1 << 31}
			var head [headerLen]byte
			h.encode(&head)
			return b.h.Queue(txQueue).Add(append([][]byte{head[:]}, data))
		}
		step := func() {
			if _, err := b.d.drain(b.d.tx); err != nil {
				t.Fatal(err)
			}
			if err := b.d.flush(); err != nil {
				t.Fatal(err)
			}
		}
		send(opRequest, nil)
		step()
		defer unix.Close(program)
		data := send(opData, make([]byte, 3000))
		step()
		buf := make([]byte, 1<<16)
		s := b.d.streams.byAddress[address{2, 1}]
		s.guestAlloc = 1 << 31
		_, _, ok := b.h.Queue(rxQueue).Used() // the response
		require.True(t, ok)
		b.give(1)
		n, err := unix.Read(program, buf)
		require.NoError(t, err)
		require.Equal(t, 3000, n)
		ids := make([]uint16, 0, 8)
		for range 4 {
			ids = append(ids, b.h.Queue(rxQueue).Add(nil, 4096))
		}
		offered := 0
		require.Zero(t, testing.AllocsPerRun(200, func() {
			b.h.Queue(txQueue).Offer(data)
			step()
			if n, err := unix.Read(program, buf); err != nil || n != 3000 {
				t.Fatal(n, err)
			}
			if n, err := unix.Write(program, buf[:2000]); err != nil || n != 2000 {
				t.Fatal(n, err)
			}
			b.events(t)
			step()
			b.h.Queue(rxQueue).Offer(ids[offered%len(ids)])
			offered++
		}), "%+v", o)
		require.Equal(t, uint64(202*3000), b.d.fromGuest.Load())
		require.Positive(t, b.d.toGuest.Load())
	}
}

func TestMalformed(t *testing.T) {
	valid := func(edit func(h *header)) []byte {
		h := header{srcCID: guestCID, dstCID: hostCID, srcPort: 5, dstPort: 6, kind: streamType, op: opData, alloc: 1 << 16}
		edit(&h)
		var b [headerLen]byte
		h.encode(&b)
		return b[:]
	}
	for name, c := range map[string]struct {
		packet []byte
		reset  bool // the guest is told
		opened bool // of a stream that there is
	}{
		"short":                 {packet: make([]byte, headerLen-1)},
		"forged source":         {packet: valid(func(h *header) { h.srcCID = 43 })},
		"to another guest":      {packet: valid(func(h *header) { h.dstCID = 43 })},
		"to the hypervisor":     {packet: valid(func(h *header) { h.dstCID = 0 })},
		"wide source":           {packet: valid(func(h *header) { h.srcCID |= 1 << 32 })},
		"datagram":              {packet: valid(func(h *header) { h.kind = 3 }), reset: true},
		"datagram in a stream":  {packet: valid(func(h *header) { h.kind = 3 }), reset: true, opened: true},
		"longer than its chain": {packet: valid(func(h *header) { h.length = 1 }), reset: true},
		"huge":                  {packet: valid(func(h *header) { h.length = 1<<32 - 1 }), reset: true, opened: true},
		"no operation":          {packet: valid(func(h *header) { h.op = 0 }), reset: true, opened: true},
		"unknown operation":     {packet: valid(func(h *header) { h.op = 8 }), reset: true, opened: true},
		"twice opened":          {packet: valid(func(h *header) { h.op = opRequest }), reset: true, opened: true},
		"answer unasked":        {packet: valid(func(h *header) { h.op = opResponse }), reset: true, opened: true},
		"data of no stream":     {packet: valid(func(h *header) {}), reset: true},
		"credit of no stream":   {packet: valid(func(h *header) { h.op = opCreditUpdate }), reset: true},
		"end of no stream":      {packet: valid(func(h *header) { h.op = opShutdown }), reset: true},
		"reset of no stream":    {packet: valid(func(h *header) { h.op = opReset })},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPairs(t)
			g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
			if c.opened {
				g.open(p, 6, 5)
			}
			g.raw(c.packet)
			if c.reset {
				r := g.want(opReset)
				require.EqualValues(t, 5, r.dstPort)
				require.EqualValues(t, 6, r.srcPort)
			}
			g.nothing()
			require.Zero(t, g.dev.Stats().Open)
			require.Empty(t, g.h.Failures())
			g.open(p, 9, 9) // goes on
		})
	}
}

// Refusals that the guest does not take do not pile up: its packets wait.
func TestRefusalsPileUp(t *testing.T) {
	g, _ := newGuest(t, Config{}, virtiotest.Options{}, 0)
	for i := range uint32(3 * maxResets) {
		h := header{srcCID: guestCID, dstCID: hostCID, srcPort: i, dstPort: 1, kind: streamType, op: opRequest}
		var b [headerLen]byte
		h.encode(&b)
		g.h.Queue(txQueue).Add([][]byte{b[:]})
	}
	g.h.Kick(txQueue)
	for range maxResets {
		g.h.WaitUsed(txQueue)
	}
	g.nothing()
	_, _, ok := g.h.Queue(txQueue).Used()
	require.False(t, ok, "no more than there is room for")
	g.give(8)
	for i := range uint32(3 * maxResets) {
		require.Equal(t, i, g.want(opReset).dstPort)
	}
}

// Buffers of the guest that are too small are given back unused.
func TestSmallBuffers(t *testing.T) {
	p := newPairs(t)
	g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 0)
	g.send(opRequest, 1, 2, nil, nil)
	for _, n := range []int{1, headerLen - 1, headerLen} {
		g.h.Queue(rxQueue).Add(nil, n)
	}
	g.h.Queue(rxQueue).Add([][]byte{{1, 2, 3}})
	g.h.Kick(rxQueue)
	for range 4 {
		_, n := g.h.WaitUsed(rxQueue)
		require.Zero(t, n)
	}
	// One spread over many pieces.
	id := g.h.Queue(rxQueue).Add(nil, 1, 20, 3, 30, 100)
	g.h.Kick(rxQueue)
	got, n := g.h.WaitUsed(rxQueue)
	require.Equal(t, id, got)
	require.Equal(t, opResponse, g.parse(id, n).op)
	require.EqualValues(t, 4, g.dev.Stats().Errors)
}

func TestBrokenRings(t *testing.T) {
	for _, queue := range []int{rxQueue, txQueue} {
		p := newPairs(t)
		g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 0)
		if queue == rxQueue {
			g.send(opRequest, 1, 2, nil, nil)
		}
		g.h.Queue(queue).Offer(1000)
		g.h.Kick(queue)
		g.h.WaitConfigInterrupt()
		require.Len(t, g.h.Failures(), 1)
		g.h.Reset()
		g.h.Begin()
		g.give(8)
		g.open(p, 1, 2)
	}
}

// FuzzPackets plays a sequence of packets of a guest, between which host programs do something.
func FuzzPackets(f *testing.F) {
	step := func(do byte, op operation, port byte, length uint16, flags byte, alloc uint32) []byte {
		b := []byte{do, byte(op), port, byte(length), byte(length >> 8), flags}
		return binary.LittleEndian.AppendUint32(b, alloc)
	}
	join := func(list ...[]byte) (all []byte) {
		for _, b := range list {
			all = append(all, b...)
		}
		return all
	}
	f.Add(join(step(0, opRequest, 1, 0, 0, 9000), step(0, opData, 1, 3000, 0, 9000), step(1, opCreditRequest, 1, 0, 0, 9000), step(3, opShutdown, 1, 0, 3, 0)), false)
	f.Add(join(step(0, opRequest, 1, 0, 0, 0), step(2, opData, 1, 4000, 0, 1), step(2, opData, 1, 4000, 0, 1), step(4, opCreditUpdate, 1, 0, 0, 1<<31)), true)
	f.Add(join(step(0, opRequest, 1, 0, 0, 9), step(0, opShutdown, 1, 0, 1, 9), step(2, opShutdown, 1, 0, 2, 9), step(0, opReset, 1, 0, 0, 0)), false)
	f.Add(join(step(5, opResponse, 200, 0, 0, 9), step(0, opData, 200, 10, 0, 9), step(3, opData, 200, 10, 0, 9)), false)
	f.Add(join(step(0, opRequest, 0, 0, 0, 9), step(0, opRequest, 1, 0, 0, 9), step(0, opRequest, 1, 0, 0, 9)), false)
	f.Fuzz(func(t *testing.T, script []byte, packed bool) {
		var programs []int
		b := newBare(t, Config{Connect: func(port uint32) (int, error) {
			if port == 0 || len(programs) >= 16 {
				return -1, unix.ECONNREFUSED
			}
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
				programs = append(programs, fds[1])
			}
			return fds[0], err
		}}, virtiotest.Options{Packed: packed, Size: 16})
		defer func() {
			for _, fd := range programs {
				unix.Close(fd)
			}
		}()
		b.give(4)
		buf := make([]byte, 5000)
		for n := 0; len(script) >= 10 && n < 64; n++ {
			do, op, port := script[0], operation(script[1]), uint32(script[2])
			length := int(script[3]) | int(script[4])<<8
			h := header{srcCID: guestCID, dstCID: hostCID, srcPort: port, dstPort: port % 5, length: uint32(length), kind: streamType, op: op,
				flags: uint32(script[5]), alloc: binary.LittleEndian.Uint32(script[6:]), forwarded: uint32(script[5]) << 8}
			script = script[10:]
			if port >= 128 { // of a program that connects, numbered from firstHostPort on
				h.dstPort = firstHostPort + port - 200
			}
			switch {
			case do == 1 && len(programs) > 0:
				_, _ = unix.Write(programs[len(programs)-1], buf[:length%len(buf)])
			case do == 2 && len(programs) > 0:
				_, _ = unix.Read(programs[len(programs)-1], buf)
			case do == 3 && len(programs) > 0:
				unix.Close(programs[len(programs)-1])
				programs = programs[:len(programs)-1]
			case do == 4 && len(programs) > 0:
				_ = unix.Shutdown(programs[0], int(port%3))
			case do == 5: // a program connects
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				programs = append(programs, fds[1])
				_, _ = unix.Write(fds[1], append([]byte("CONNECT 200\n"), script[:min(len(script), int(port%16))]...))
				s := &stream{phase: greeting, fd: fds[0]}
				b.d.streams.add(s)
				b.d.streams.greetings++
				if err := b.d.poller.watch(s, false); err != nil {
					t.Fatal(err)
				}
			}
			var head [headerLen]byte
			h.encode(&head)
			b.h.Queue(txQueue).Add([][]byte{head[:], buf[:length%len(buf)]})
			b.step(t)
		}
		b.step(t)
	})
}

// check looks at what every packet of the device has.
func (b *bare) check(id uint16, n uint32) {
	var p packet
	w := b.h.Queue(rxQueue).Written(id)[:n]
	p.decode((*[headerLen]byte)(w))
	if p.srcCID != hostCID || p.dstCID != guestCID || p.kind != streamType || int(p.length) != len(w)-headerLen || p.op < opRequest || p.op > opCreditRequest {
		b.t.Fatalf("%+v of %d bytes", p, n)
	}
}

// step lets the device do all there is to do, within bounds, and checks it.
func (b *bare) step(t *testing.T) {
	d := b.d
	for range 2 {
		if _, err := d.drain(d.tx); err != nil {
			t.Fatal(err)
		}
		if b.events(t) > len(d.poller.events) {
			t.Fatal("events")
		}
		if err := d.flush(); err != nil {
			t.Fatal(err)
		}
	}
	for id, n, ok := b.h.Queue(rxQueue).Used(); ok; id, n, ok = b.h.Queue(rxQueue).Used() {
		if n != 0 && (n < headerLen || n > 4096) {
			t.Fatalf("a packet of %d bytes", n)
		}
		if n > 0 {
			b.check(id, n)
		}
		b.h.Queue(rxQueue).Add(nil, b.bufferLen)
	}
	for _, _, ok := b.h.Queue(txQueue).Used(); ok; _, _, ok = b.h.Queue(txQueue).Used() {
	}
	alive := 0
	for slot, s := range d.streams.slots {
		if s == nil {
			continue
		}
		if s.slot != slot || s.phase == ended || s.pending.len() > bufferSize || cap(s.pending.data) > 2*bufferSize {
			t.Fatalf("stream %+v in slot %d", s, slot)
		}
		if s.phase == open || s.phase == closing {
			alive++
		}
		if s.wants() && !s.queued {
			t.Fatalf("stream %+v is forgotten", s)
		}
	}
	if alive != int(d.open.Load()) || len(d.streams.byAddress) > d.streams.count() {
		t.Fatalf("%d open, %d counted; %d names, %d streams", alive, d.open.Load(), len(d.streams.byAddress), d.streams.count())
	}
}

func FuzzGreeting(f *testing.F) {
	for _, s := range []string{"CONNECT 1\n", "CONNECT 4294967295\r\n", "CONNECT  1\n", "CONNECT 1", "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if port, ok := parseGreeting(line); ok && port != 0 {
			if line[0] != 'C' {
				t.Fatalf("%q is port %d", line, port)
			}
		}
	})
}

// FuzzRings lets the guest write what it likes where the queues are.
func FuzzRings(f *testing.F) {
	one := make([]byte, 16*queueSize+8)
	virtqtest.Put(one, 8<<20, headerLen, 0, 0)
	binary.LittleEndian.PutUint16(one[16*queueSize+2:], 1)
	f.Add(one, []byte{guestCID, 0, 0, 0, 0, 0, 0, 0, hostCID}, 0, false)
	f.Add(one, []byte{1}, 1, true)
	f.Fuzz(func(t *testing.T, ring, data []byte, queue int, packed bool) {
		b := newBare(t, Config{}, virtiotest.Options{Packed: packed, Indirect: true})
		queue &= 1
		desc := b.h.Queue(queue).Config().Desc
		copy(b.h.Queue(queue).Bytes(desc, 1<<16), ring)
		copy(b.h.Queue(queue).Bytes(8<<20, 1<<16), data)
		b.d.resets.push(address{1, 2})
		_, err := b.d.drain(b.d.tx)
		if err != nil && virtio.IsBadChain(err) != nil {
			t.Fatal(err)
		}
		_ = b.d.flush()
		if b.d.resets.n > maxResets || b.d.tx.InFlight() != 0 || b.d.rx.InFlight() > 1 {
			t.Fatal(b.d.resets.n, b.d.tx.InFlight(), b.d.rx.InFlight())
		}
	})
}
