//go:build linux

package vsock

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

func TestAddress(t *testing.T) {
	for _, cid := range []uint64{0, 1, 2, 1<<32 - 1, 1 << 40} {
		_, err := New(Config{CID: cid})
		require.ErrorContains(t, err, "not for guests")
	}
	g, _ := newGuest(t, Config{}, virtiotest.Options{}, 1)
	require.EqualValues(t, guestCID, binary.LittleEndian.Uint64(g.h.ReadConfig(0, 8)))
	require.Equal(t, []byte{0, 0}, g.h.ReadConfig(2, 2))
}

// The guest connects to a program of the host; both send, both close.
func TestGuestConnects(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {EventIdx: true}, {Packed: true, Indirect: true, EventIdx: true}} {
		p := newPairs(t)
		g, _ := newGuest(t, Config{Connect: p.connect}, o, 8)
		c := g.open(p, 1000, 5)
		g.send(opData, 1000, 5, nil, []byte("ping"))
		b := make([]byte, 10)
		n, err := c.Read(b)
		require.NoError(t, err)
		require.Equal(t, "ping", string(b[:n]))
		_, err = c.Write([]byte("pong"))
		require.NoError(t, err)
		got := g.want(opData)
		require.Equal(t, "pong", string(got.data))
		require.EqualValues(t, 4, got.forwarded)
		require.EqualValues(t, bufferSize, got.alloc)

		// Half closed by the guest: the program reads to the end and may answer still.
		g.send(opShutdown, 1000, 5, func(h *header) { h.flags = shutSend }, nil)
		rest, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Empty(t, rest)
		_, err = c.Write([]byte("late"))
		require.NoError(t, err)
		require.Equal(t, "late", string(g.want(opData).data))
		c.Close()
		require.EqualValues(t, shutBoth, g.want(opShutdown).flags)
		g.send(opReset, 1000, 5, nil, nil)
		g.nothing()
		require.Equal(t, Stats{Accepted: 1, ToGuest: 8, FromGuest: 4}, g.dev.Stats())
	}
}

// A program of the host connects to the guest.
func TestHostConnects(t *testing.T) {
	g, path := newGuest(t, Config{}, virtiotest.Options{}, 8)
	c, host := g.dial(path, 22)
	_, err := c.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, "hello", string(g.want(opData).data))
	// Half closed by the program: the guest may answer still.
	require.NoError(t, c.CloseWrite())
	require.EqualValues(t, shutSend, g.want(opShutdown).flags)
	g.send(opData, host, 22, nil, []byte("answer"))
	g.send(opShutdown, host, 22, func(h *header) { h.flags = shutBoth }, nil)
	g.want(opReset)
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "answer", string(rest))
	require.Equal(t, Stats{Dialed: 1, ToGuest: 5, FromGuest: 6}, g.dev.Stats())
}

func TestRefusals(t *testing.T) {
	p := newPairs(t)
	p.fail.Store(true)
	g, path := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
	g.send(opRequest, 1, 2, nil, nil)
	r := g.want(opReset)
	require.EqualValues(t, 1, r.srcPort)
	require.EqualValues(t, 2, r.dstPort)

	c := g.connect(path)
	fmt.Fprint(c, "CONNECT 9\n")
	r = g.want(opRequest)
	g.send(opReset, r.srcPort, 9, nil, nil)
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Empty(t, rest, "closed without OK")
	require.EqualValues(t, 2, g.dev.Stats().Refused)

	// One that gives up while the guest thinks.
	c = g.connect(path)
	fmt.Fprint(c, "CONNECT 9\n")
	r = g.want(opRequest)
	c.Close()
	require.Equal(t, r.srcPort, g.want(opReset).srcPort)
	require.Zero(t, g.dev.Stats().Open)
}

func TestGreetings(t *testing.T) {
	g, path := newGuest(t, Config{}, virtiotest.Options{}, 8)
	for _, line := range []string{"\n", "CONNECT\n", "CONNECT x\n", "CONNECT -1\n", "CONNECT +1\n", "CONNECT 4294967296\n", "connect 1\n", "CONNECT 1 \n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"} {
		c := g.connect(path)
		_, err := io.WriteString(c, line)
		require.NoError(t, err)
		rest, _ := io.ReadAll(c)
		require.Empty(t, rest, "%q", line)
	}
	g.nothing()
	// Byte by byte, and data right behind it.
	c := g.connect(path)
	for _, b := range []byte("CONNECT 4294967295\r\nmore") {
		_, err := c.Write([]byte{b})
		require.NoError(t, err)
	}
	r := g.want(opRequest)
	require.EqualValues(t, 1<<32-1, r.dstPort)
	g.send(opResponse, r.srcPort, r.dstPort, nil, nil)
	require.Equal(t, "more", string(g.want(opData).data))

	// Those that say nothing do not keep others out.
	var silent []net.Conn
	for range 2 * maxGreetings {
		silent = append(silent, g.connect(path))
	}
	g.dial(path, 7)
	_, err := io.ReadAll(silent[0])
	require.NoError(t, err, "the oldest is sent away")
}

// A program that does not read: what the guest may send is kept, what is too much ends the connection.
func TestProgramStalls(t *testing.T) {
	p := newPairs(t)
	p.size = 4096
	g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
	c := g.open(p, 1, 2)
	sent := uint32(0)
	var all []byte
	fwd := uint32(0)
	for sent-fwd+1000 <= bufferSize {
		data := bytes.Repeat([]byte{byte(sent >> 10)}, 1000)
		g.send(opData, 1, 2, nil, data)
		all = append(all, data...)
		sent += 1000
		if id, n, ok := g.h.Queue(rxQueue).Used(); ok {
			u := g.parse(id, n)
			require.Equal(t, opCreditUpdate, u.op)
			fwd = u.forwarded
		}
	}
	before := g.dev.wakeups.Load()
	time.Sleep(50 * time.Millisecond)
	require.LessOrEqual(t, g.dev.wakeups.Load()-before, uint64(1), "nothing happens while it stalls")
	g.send(opShutdown, 1, 2, func(h *header) { h.flags = shutBoth }, nil)
	g.send(opReset, 1, 2, nil, nil) // the guest does not wait for ever
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, all, got, "what was sent arrives")
	require.Eventually(t, func() bool { return g.dev.Stats().Open == 0 }, virtiotest.Patience, time.Millisecond)

	c = g.open(p, 1, 3)
	for range bufferSize/4000 + 10 {
		g.send(opData, 1, 3, nil, make([]byte, 4000))
	}
	for {
		if r := g.receive(); r.op == opReset {
			break
		}
	}
	require.EqualValues(t, 1, g.dev.Stats().Errors)
	_, err = io.ReadAll(c)
	require.NoError(t, err)
}

// A guest that has no credit, or no buffers, costs nothing, and goes on where it was.
func TestGuestStalls(t *testing.T) {
	p := newPairs(t)
	g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
	g.alloc = 10
	c := g.open(p, 1, 2)
	_, err := c.Write([]byte("0123456789abcdef"))
	require.NoError(t, err)
	require.Equal(t, "0123456789", string(g.want(opData).data))
	g.want(opCreditRequest)
	g.nothing()
	before := g.dev.wakeups.Load()
	time.Sleep(50 * time.Millisecond)
	require.Equal(t, before, g.dev.wakeups.Load())
	g.send(opCreditUpdate, 1, 2, func(h *header) { h.forwarded = 10 }, nil)
	require.Equal(t, "abcdef", string(g.want(opData).data))

	// No buffers.
	g, _ = newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 1)
	g.bufferLen = headerLen + 100
	c = g.open(p, 1, 2)
	data := make([]byte, 100<<10)
	for i := range data {
		data[i] = byte(i >> 7)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		done <- err
	}()
	var got []byte
	id, n := g.h.WaitUsed(rxQueue)
	before = g.dev.wakeups.Load()
	time.Sleep(50 * time.Millisecond)
	require.LessOrEqual(t, g.dev.wakeups.Load()-before, uint64(2))
	got = append(got, g.parse(id, n).data...)
	for len(got) < len(data) {
		got = append(got, g.want(opData).data...)
	}
	require.NoError(t, <-done)
	require.Equal(t, data, got)
}

// What the guest asks for is told, and what it need not ask for also.
func TestCredit(t *testing.T) {
	p := newPairs(t)
	g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
	c := g.open(p, 1, 2)
	g.send(opCreditRequest, 1, 2, nil, nil)
	require.EqualValues(t, 0, g.want(opCreditUpdate).forwarded)
	go io.Copy(io.Discard, c)
	const step = 4000
	sent := uint32(0)
	for sent < bufferSize/2 {
		g.send(opData, 1, 2, nil, make([]byte, step))
		sent += step
	}
	u := g.want(opCreditUpdate)
	require.GreaterOrEqual(t, u.forwarded, uint32(bufferSize/2))
	require.LessOrEqual(t, u.forwarded, sent)
	require.Zero(t, g.dev.Stats().Errors)
}

// A reset of the device closes all; the driver may begin anew.
func TestReset(t *testing.T) {
	p := newPairs(t)
	g, path := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
	c := g.open(p, 1, 2)
	d, _ := g.dial(path, 3)
	g.h.Reset()
	for _, c := range []*net.UnixConn{c, d} {
		rest, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Empty(t, rest)
	}
	require.Zero(t, g.dev.Stats().Open)
	waiting := g.connect(path) // until the guest has a driver
	fmt.Fprint(waiting, "CONNECT 4\n")
	g.h.Begin()
	g.give(8)
	r := g.want(opRequest)
	require.EqualValues(t, 4, r.dstPort)
	g.open(p, 1, 2)
}

// Many connections at once, each with its own data, both ways.
func TestThousandStreams(t *testing.T) {
	const n = 1000
	p := newPairs(t)
	g, _ := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 64)
	programs := make([]*net.UnixConn, n)
	for i := range programs {
		programs[i] = g.open(p, 1, uint32(i))
	}
	require.EqualValues(t, n, g.dev.Stats().Open)
	for i, c := range programs {
		_, err := fmt.Fprintf(c, "to %d", i)
		require.NoError(t, err)
	}
	for range n {
		d := g.want(opData)
		require.Equal(t, fmt.Sprintf("to %d", d.dstPort), string(d.data))
		g.send(opData, 1, d.dstPort, nil, fmt.Appendf(nil, "from %d", d.dstPort))
	}
	b := make([]byte, 100)
	for i, c := range programs {
		k, err := c.Read(b)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("from %d", i), string(b[:k]))
		c.Close()
	}
	for range n {
		s := g.want(opShutdown)
		g.send(opReset, 1, s.dstPort, nil, nil)
	}
	require.Zero(t, g.dev.Stats().Open)
}

// The guest's connections are bounded.
func TestTooMany(t *testing.T) {
	p := newPairs(t)
	g, path := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 64)
	for i := range MaxConnections {
		g.send(opRequest, 1, uint32(i), nil, nil)
		g.want(opResponse)
	}
	g.send(opRequest, 1, MaxConnections, nil, nil)
	g.want(opReset)
	// A program waits until there is room.
	c := g.connect(path)
	fmt.Fprint(c, "CONNECT 4\n")
	g.nothing()
	g.send(opReset, 1, 7, nil, nil)
	require.EqualValues(t, 4, g.want(opRequest).dstPort)
	for range MaxConnections {
		(<-p.made).Close()
	}
}

// A paused device moves nothing in either direction, and goes on where it was.
func TestPause(t *testing.T) {
	p := newPairs(t)
	g, path := newGuest(t, Config{Connect: p.connect}, virtiotest.Options{}, 8)
	c := g.open(p, 1, 2)
	_ = c.SetDeadline(time.Time{})
	for range 3 {
		g.h.Quiet(func() {
			_, err := c.Write([]byte("held"))
			require.NoError(t, err)
			fmt.Fprint(g.connect(path), "CONNECT 5\n")
			h := header{srcCID: guestCID, dstCID: hostCID, srcPort: 2, dstPort: 1, length: 4, kind: streamType, op: opData, alloc: 1 << 20}
			var b [headerLen]byte
			h.encode(&b)
			g.h.Queue(txQueue).Add([][]byte{b[:], []byte("back")})
			g.h.Kick(txQueue)
		}, func() any { return g.dev.Stats() }, rxQueue, txQueue)
		got := map[operation]string{}
		for range 2 {
			r := g.receive()
			got[r.op] = string(r.data)
		}
		require.Equal(t, map[operation]string{opData: "held", opRequest: ""}, got)
		g.h.WaitUsed(txQueue)
		b := make([]byte, 4)
		_, err := io.ReadFull(c, b)
		require.NoError(t, err)
		require.Equal(t, "back", string(b))
	}
}
