//go:build linux

package net

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

const (
	bareMemory = 1 << 20
	bareQueue  = 4096 // where the rings are
	bareData   = 512 << 10
)

// bare is a device whose workers a test calls step by step, with one queue and no interrupts.
type bare struct {
	d    *Device
	q    *virtio.Queue
	drv  *virtqtest.Driver
	peer int // the other end of the back end, non-blocking
	fd   int

	check func() // that the device has written where it may, since setUp
}

func newBare(t testing.TB, c Config, o virtqtest.Options) *bare {
	t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd[0]), "device")
	t.Cleanup(func() { file.Close(); unix.Close(fd[1]) })
	c.MAC, c.Backend.Files = mac, []*os.File{file}
	c.SetOffloads = func(uint64) error { return nil }
	d, err := New(c)
	require.NoError(t, err)
	d.active.Store(1)
	mem := virtqtest.Memory(t, bareMemory)
	drv := virtqtest.New(t, mem, bareQueue, bareData-bareQueue, dataQueueSize, o)
	drv.WantInterrupts(false)
	q, err := virtq.New(mem, drv.Config())
	require.NoError(t, err)
	return &bare{d: d, q: &virtio.Queue{Queue: q}, drv: drv, peer: fd[1], fd: fd[0]}
}

// drained is the connection of a back end that does not wait: it empties the other end in place of that, and shows what it finds.
type drained struct {
	*bare
	t    testing.TB
	buf  []byte
	seen func(message []byte)
}

func (c *drained) Control(f func(fd uintptr)) error   { f(uintptr(c.fd)); return nil }
func (c *drained) Read(f func(fd uintptr) bool) error { f(uintptr(c.fd)); return nil }
func (c *drained) Write(f func(fd uintptr) bool) error {
	for !f(uintptr(c.fd)) {
		c.empty()
	}
	c.empty()
	return nil
}

func (c *drained) empty() {
	for {
		n, err := unix.Read(c.peer, c.buf)
		if err != nil {
			require.Equal(c.t, unix.EAGAIN, err)
			return
		}
		c.seen(c.buf[:n])
	}
}

func TestTransmitAllocatesNothing(t *testing.T) {
	for _, vnet := range []bool{false, true} {
		for _, parts := range []int{1, 2, 20, 150} {
			b := newBare(t, Config{Backend: Backend{VNetHdr: vnet}}, virtqtest.Options{})
			w := newTx(b.d, b.d.pairs[0], b.q, 0)
			id := b.drv.Add(split(join(noHeader, frame(1488, 1)), 1500/parts))
			sink := make([]byte, 2000)
			step := func() {
				b.drv.Offer(id)
				drained, err := w.Step()
				b.q.Flush()
				n, fault := unix.Read(b.peer, sink)
				if !drained || err != nil || fault != nil || n < 1488 {
					t.Fatal(drained, err, fault, n)
				}
			}
			_, err := w.Step() // what Add offered
			require.NoError(t, err)
			_, err = unix.Read(b.peer, sink)
			require.NoError(t, err)
			assert.Zero(t, testing.AllocsPerRun(500, step), "%d parts", parts)
			assert.Equal(t, uint64(502), b.d.Stats().TxPackets)
		}
	}
}

func TestReceiveAllocatesNothing(t *testing.T) {
	for _, features := range []uint64{0, MrgRxbuf} {
		b := newBare(t, Config{}, virtqtest.Options{})
		w := newRx(b.d, b.d.pairs[0], 0, b.q, features)
		size, each := 1526, 1 // each frame takes so many
		if features != 0 {
			size, each = 600, 3
		}
		var ids []uint16
		for range dataQueueSize {
			ids = append(ids, b.drv.Add(nil, size))
		}
		f := frame(1514, 1)
		at := 0
		step := func() {
			if _, err := unix.Write(b.peer, f); err != nil {
				t.Fatal(err)
			}
			if err := w.hold(1); err != nil {
				t.Fatal(err)
			}
			n, err := w.receive()
			if err != nil || n != len(f) {
				t.Fatal(n, err)
			}
			if err := w.deliver(n); err != nil {
				t.Fatal(err)
			}
			w.flush()
			for range each { // they come back in order
				b.drv.Offer(ids[at%len(ids)])
				at++
			}
		}
		// All chains have grown after one turn.
		for range dataQueueSize {
			step()
		}
		assert.Zero(t, testing.AllocsPerRun(500, step))
		assert.Zero(t, b.d.Stats().RxDrops)
	}
}
