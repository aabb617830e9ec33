//go:build linux

package net

import (
	"bytes"
	"encoding/binary"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

// Queues of a device with one pair.
const (
	rxQueue = 0
	txQueue = 1
)

var mac = [6]byte{0x52, 0x54, 0, 1, 2, 3}

// pipe is a back end whose other end is the test's.
func pipe(t testing.TB, kind int) (ours, theirs *os.File) {
	t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ours, theirs = os.NewFile(uintptr(fd[0]), "device"), os.NewFile(uintptr(fd[1]), "peer")
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	require.NoError(t, theirs.SetDeadline(time.Now().Add(virtiotest.Patience)))
	return ours, theirs
}

// host is what the device told its back end.
type host struct {
	offloads, pairs atomic.Uint64
	lost            atomic.Int32
}

// start runs a device on sockets, one for each pair.
func start(t testing.TB, c Config, pairs int, o virtiotest.Options) (*Device, *virtiotest.Harness, []*os.File, *host) {
	t.Helper()
	var peers []*os.File
	for range pairs {
		ours, theirs := pipe(t, unix.SOCK_SEQPACKET)
		c.Backend.Files = append(c.Backend.Files, ours)
		peers = append(peers, theirs)
	}
	seen := &host{}
	c.MAC = mac
	if c.SetOffloads == nil {
		c.SetOffloads = func(f uint64) error { seen.offloads.Store(f); return nil }
	}
	if c.SetPairs == nil {
		c.SetPairs = func(n int) error { seen.pairs.Store(uint64(n)); return nil }
	}
	c.Lost = func(error) { seen.lost.Add(1) }
	d, err := New(c)
	require.NoError(t, err)
	return d, virtiotest.Start(t, d, o), peers, seen
}

// frame is a frame of n bytes that differ.
func frame(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7) ^ byte(i>>8) ^ seed
	}
	return b
}

// header makes a virtio_net_hdr_v1.
func header(flags, gso byte, hdrLen, gsoSize, csumStart, csumOffset, buffers uint16) []byte {
	b := []byte{flags, gso}
	for _, v := range []uint16{hdrLen, gsoSize, csumStart, csumOffset, buffers} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return b
}

var noHeader = make([]byte, hdrLen)

// read gives the next message that the device sent.
func read(t testing.TB, f *os.File) []byte {
	t.Helper()
	b := make([]byte, 1<<17)
	n, err := f.Read(b)
	require.NoError(t, err)
	return b[:n]
}

// write sends messages to the device.
func write(t testing.TB, f *os.File, frames ...[]byte) {
	t.Helper()
	for _, b := range frames {
		_, err := f.Write(b)
		require.NoError(t, err)
	}
}

// send has the guest send parts as one frame and waits until they are given back.
func send(t testing.TB, h *virtiotest.Harness, queue int, parts ...[]byte) {
	t.Helper()
	h.Queue(queue).Add(parts)
	h.Kick(queue)
	_, n := h.WaitUsed(queue)
	require.Zero(t, n)
}

// receive waits for one frame, over as many buffers as its header says.
func receive(t testing.TB, h *virtiotest.Harness, queue int) (head, data []byte, buffers int) {
	t.Helper()
	var all []byte
	for want := 1; buffers < want; buffers++ {
		id, n := h.WaitUsed(queue)
		all = append(all, h.Queue(queue).Written(id)[:n]...)
		if buffers == 0 {
			require.GreaterOrEqual(t, len(all), hdrLen)
			want = int(binary.LittleEndian.Uint16(all[hdrNumBuffers:]))
		}
	}
	return all[:hdrLen], all[hdrLen:], buffers
}

// until waits for what other goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(virtiotest.Patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// split cuts b into parts of n bytes.
func split(b []byte, n int) (parts [][]byte) {
	for len(b) > n {
		parts, b = append(parts, b[:n]), b[n:]
	}
	return append(parts, b)
}

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }
