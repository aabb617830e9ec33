//go:build linux

package net

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

func TestConfigErrors(t *testing.T) {
	ours, theirs := pipe(t, unix.SOCK_SEQPACKET)
	stream, _ := pipe(t, unix.SOCK_STREAM)
	blocking, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer blocking.Close()
	offloads := func(uint64) error { return nil }
	for _, tc := range []struct {
		name string
		c    Config
		want string
	}{
		{"no file", Config{MAC: mac}, "0 back end files"},
		{"nil file", Config{MAC: mac, Backend: Backend{Files: []*os.File{nil}}}, "file 0: no file"},
		{"too many files", Config{MAC: mac, SetPairs: func(int) error { return nil }, Backend: Backend{Files: make([]*os.File, MaxPairs+1)}}, "17 back end files"},
		{"no SetPairs", Config{MAC: mac, Backend: Backend{Files: []*os.File{ours, theirs}}}, "without SetPairs"},
		{"no header for offloads", Config{MAC: mac, SetOffloads: offloads, Backend: Backend{Files: []*os.File{ours}, Offloads: true}}, "offloads need"},
		{"no SetOffloads", Config{MAC: mac, Backend: Backend{Files: []*os.File{ours}, Offloads: true, VNetHdr: true}}, "offloads need"},
		{"small MTU", Config{MAC: mac, MTU: 67, Backend: Backend{Files: []*os.File{ours}}}, "MTU 67"},
		{"no MAC", Config{Backend: Backend{Files: []*os.File{ours}}}, "MAC"},
		{"group MAC", Config{MAC: [6]byte{1}, Backend: Backend{Files: []*os.File{ours}}}, "group address"},
		{"stream", Config{MAC: mac, Backend: Backend{Files: []*os.File{stream}}}, "SOCK_SEQPACKET"},
		{"blocking", Config{MAC: mac, Backend: Backend{Files: []*os.File{blocking}}}, "O_NONBLOCK"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.c)
			assert.ErrorContains(t, err, tc.want)
		})
	}
}

func TestFeaturesAndConfig(t *testing.T) {
	d, h, _, seen := start(t, Config{MTU: 1400}, 1, virtiotest.Options{Features: MAC | MTU | Status})
	assert.Equal(t, uint64(MAC|MTU|Status|MrgRxbuf), d.Features(), "no offloads where the back end has none")
	assert.Equal(t, []uint16{256, 256}, d.QueueSizes())
	assert.Equal(t, []byte{0x52, 0x54, 0, 1, 2, 3, 1, 0, 1, 0, 0x78, 5}, h.ReadConfig(0, cfgSize))
	assert.Equal(t, []byte{0x78, 5}, h.ReadConfig(cfgMTU, 2))
	h.Core.WriteConfig(0, make([]byte, cfgSize))
	assert.Equal(t, mac[:], h.ReadConfig(0, 6), "the address is the device's")
	until(t, "one pair", func() bool { return seen.pairs.Load() == 1 })

	d.SetLink(false)
	h.WaitConfigInterrupt()
	assert.Equal(t, []byte{0, 0}, h.ReadConfig(cfgStatus, 2))
	d.SetLink(true)
	h.WaitConfigInterrupt()
	assert.Equal(t, []byte{1, 0}, h.ReadConfig(cfgStatus, 2))

	d, _, _, seen = start(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, 2, virtiotest.Options{Features: GuestCsum | GuestTSO4})
	assert.Equal(t, uint64(offloads|MAC|Status|MrgRxbuf|CtrlVQ|CtrlGuestOffloads|MQ), d.Features())
	assert.Equal(t, []uint16{256, 256, 256, 256, 64}, d.QueueSizes())
	until(t, "offloads", func() bool { return seen.offloads.Load() == GuestCsum|GuestTSO4 })

	assert.Equal(t, uint64(0), effective(HostTSO4|HostTSO6|GuestTSO4|GuestTSO6|MQ|CtrlGuestOffloads), "bits without those they need")
}

// A link that changes after the driver has looked and before the device works is told then.
func TestLinkChangesBeforeStart(t *testing.T) {
	ours, _ := pipe(t, unix.SOCK_SEQPACKET)
	d, err := New(Config{MAC: mac, Backend: Backend{Files: []*os.File{ours}}})
	require.NoError(t, err)
	h := virtiotest.New(t, d, virtiotest.Options{Features: Status})
	assert.Equal(t, []byte{1, 0}, h.ReadConfig(cfgStatus, 2))
	d.SetLink(false)
	h.Begin()
	h.WaitConfigInterrupt()
	assert.Equal(t, []byte{0, 0}, h.ReadConfig(cfgStatus, 2))
}

// An error of the back end at the start is a device that needs a reset, not a crash.
func TestBackendRefuses(t *testing.T) {
	refuse := true
	c := Config{SetPairs: func(int) error {
		if refuse {
			return errors.New("no such queue")
		}
		return nil
	}}
	_, h, peer, _ := start(t, c, 1, virtiotest.Options{})
	until(t, "NEEDS_RESET", func() bool { return h.Core.Status()&virtio.StatusNeedsReset != 0 })
	require.Len(t, h.Failures(), 1)
	assert.ErrorContains(t, h.Failures()[0], "no such queue")
	h.Reset()
	refuse = false
	h.Begin()
	send(t, h, txQueue, noHeader, frame(64, 1))
	assert.Equal(t, frame(64, 1), read(t, peer[0]))
}

// A helper that dies is a link that goes down and an event; the guest's frames are dropped and counted.
func TestLostBackend(t *testing.T) {
	for name, lose := range map[string]func(d *Device, peer io.Closer){
		"the other end closes": func(_ *Device, peer io.Closer) { peer.Close() },
		"the owner says so":    func(d *Device, _ io.Closer) { d.Lose(errors.New("helper was killed")) },
	} {
		for _, buffers := range []int{0, 3} {
			t.Run(name, func(t *testing.T) {
				d, h, peer, seen := start(t, Config{}, 1, virtiotest.Options{Features: Status})
				for range buffers {
					h.Queue(rxQueue).Add(nil, 1526)
				}
				h.Kick(rxQueue)
				// The transmit queue is stuck in the full socket meanwhile.
				for i := range 120 {
					h.Queue(txQueue).Add([][]byte{noHeader, frame(20000, byte(i))})
				}
				h.Kick(txQueue)
				until(t, "frames in the socket", func() bool { return d.Stats().TxPackets > 0 })
				lose(d, peer[0])
				h.WaitConfigInterrupt()
				assert.Equal(t, []byte{0, 0}, h.ReadConfig(cfgStatus, 2))
				for range 120 {
					h.WaitUsed(txQueue)
				}
				s := d.Stats()
				assert.Equal(t, uint64(120), s.TxPackets+s.TxDrops)
				assert.NotZero(t, s.TxDrops)

				// Also after a reset.
				h.Reset()
				h.Begin()
				send(t, h, txQueue, noHeader, frame(64, 1))
				assert.Equal(t, s.TxDrops+1, d.Stats().TxDrops)
				d.SetLink(true)
				assert.Equal(t, []byte{0, 0}, h.ReadConfig(cfgStatus, 2))
				d.Lose(errors.New("again"))
				assert.Equal(t, int32(1), seen.lost.Load(), "one event")
				assert.Empty(t, h.Failures())
			})
		}
	}
}

// A datagram socket keeps frames apart too; an empty one is no end.
func TestDatagrams(t *testing.T) {
	ours, theirs := pipe(t, unix.SOCK_DGRAM)
	d, err := New(Config{MAC: mac, Backend: Backend{Files: []*os.File{ours}}})
	require.NoError(t, err)
	h := virtiotest.Start(t, d, virtiotest.Options{})
	h.Queue(rxQueue).Add(nil, 1526)
	h.Kick(rxQueue)
	write(t, theirs, nil, frame(100, 1))
	conn, err := theirs.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Write(func(fd uintptr) bool { _, err = unix.Write(int(fd), nil); return true }))
	require.NoError(t, err)
	_, data, _ := receive(t, h, rxQueue)
	assert.Equal(t, frame(100, 1), data)
	send(t, h, txQueue, noHeader, frame(200, 2))
	assert.Equal(t, frame(200, 2), read(t, theirs))
	theirs.Close()
	send(t, h, txQueue, noHeader, frame(200, 3))
	assert.Equal(t, uint64(1), d.Stats().TxDrops)
	assert.Zero(t, h.ReadConfig(cfgStatus, 1)[0])
}
