//go:build linux

package vsock

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

const guestCID = 42

// packet is what one side sent.
type packet struct {
	header
	data []byte
}

// guest plays the driver's part.
type guest struct {
	t   testing.TB
	h   *virtiotest.Harness
	dev *Device
	// buffers is how many the guest has given to be filled, each of bufferLen bytes.
	bufferLen int
	alloc     uint32
}

// newGuest starts a device whose guest gives n buffers, and lets host programs connect through the socket path that it returns.
func newGuest(t testing.TB, cfg Config, o virtiotest.Options, n int) (*guest, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	require.NoError(t, unix.Listen(fd, 1024))
	cfg.CID, cfg.Listener = guestCID, f
	d, err := New(cfg)
	require.NoError(t, err)
	o.Features = featureStream
	g := &guest{t: t, h: virtiotest.Start(t, d, o), dev: d, bufferLen: 4096, alloc: 256 << 10}
	g.give(n)
	return g, path
}

// give adds buffers for the device to fill.
func (g *guest) give(n int) {
	for range n {
		g.h.Queue(rxQueue).Add(nil, g.bufferLen)
	}
	g.h.Kick(rxQueue)
}

// send sends a packet as the guest's kernel does.
func (g *guest) send(op operation, host, port uint32, edit func(*header), data []byte) {
	g.t.Helper()
	h := header{srcCID: guestCID, dstCID: hostCID, srcPort: port, dstPort: host, length: uint32(len(data)), kind: streamType, op: op, alloc: g.alloc}
	if edit != nil {
		edit(&h)
	}
	var b [headerLen]byte
	h.encode(&b)
	g.raw(b[:], data)
}

// raw sends what may be no packet.
func (g *guest) raw(parts ...[]byte) {
	g.t.Helper()
	var list [][]byte
	for _, p := range parts {
		if len(p) > 0 {
			list = append(list, p)
		}
	}
	g.h.Queue(txQueue).Add(list)
	g.h.Kick(txQueue)
	g.h.WaitUsed(txQueue)
}

// receive waits for a packet and gives its buffer back.
func (g *guest) receive() packet {
	g.t.Helper()
	id, n := g.h.WaitUsed(rxQueue)
	return g.parse(id, n)
}

func (g *guest) parse(id uint16, n uint32) packet {
	g.t.Helper()
	b := g.h.Queue(rxQueue).Written(id)[:n]
	require.GreaterOrEqual(g.t, len(b), headerLen)
	var p packet
	p.decode((*[headerLen]byte)(b))
	p.data = append([]byte(nil), b[headerLen:]...)
	require.EqualValues(g.t, len(p.data), p.length)
	require.EqualValues(g.t, hostCID, p.srcCID)
	require.EqualValues(g.t, guestCID, p.dstCID)
	g.give(1)
	return p
}

// want receives a packet of a kind.
func (g *guest) want(op operation) packet {
	g.t.Helper()
	p := g.receive()
	require.Equal(g.t, op, p.op, "%+v", p)
	return p
}

// nothing says that the device has nothing to tell.
func (g *guest) nothing() {
	g.t.Helper()
	time.Sleep(20 * time.Millisecond)
	if id, n, ok := g.h.Queue(rxQueue).Used(); ok {
		require.Failf(g.t, "a packet that is not due", "%+v", g.parse(id, n))
	}
}

// pairs makes the host's programs: each connection of the guest is one end of a socket pair.
type pairs struct {
	t    testing.TB
	made chan *net.UnixConn
	fail atomic.Bool
	size int // of the send buffer towards the program
}

func newPairs(t testing.TB) *pairs {
	return &pairs{t: t, made: make(chan *net.UnixConn, MaxConnections)}
}

func (p *pairs) connect(port uint32) (int, error) {
	if p.fail.Load() || port == 0 {
		return -1, errors.New("nobody listens")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if p.size > 0 {
		_ = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, p.size)
	}
	f := os.NewFile(uintptr(fds[1]), "program")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return -1, err
	}
	p.made <- c.(*net.UnixConn)
	return fds[0], nil
}

// open lets the guest connect to a program.
func (g *guest) open(p *pairs, host, port uint32) *net.UnixConn {
	g.t.Helper()
	g.send(opRequest, host, port, nil, nil)
	g.want(opResponse)
	c := <-p.made
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(virtiotest.Patience))
	return c
}

// dial connects a program to a port of the guest, whose driver accepts.
func (g *guest) dial(path string, port uint32) (c *net.UnixConn, host uint32) {
	g.t.Helper()
	c = g.connect(path)
	fmt.Fprintf(c, "CONNECT %d\n", port)
	p := g.want(opRequest)
	require.Equal(g.t, port, p.dstPort)
	require.GreaterOrEqual(g.t, p.srcPort, uint32(firstHostPort))
	g.send(opResponse, p.srcPort, port, nil, nil)
	line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
	require.NoError(g.t, err)
	require.Equal(g.t, fmt.Sprintf("OK %d\n", p.srcPort), line)
	return c, p.srcPort
}

func (g *guest) connect(path string) *net.UnixConn {
	g.t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(g.t, err)
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(virtiotest.Patience))
	return c.(*net.UnixConn)
}
