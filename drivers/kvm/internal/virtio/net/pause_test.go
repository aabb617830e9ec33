//go:build linux

package net

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

// A paused device neither receives nor sends, nor obeys; then it goes on, with nothing lost.
func TestPause(t *testing.T) {
	d, h, peers, _ := start(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, 1, virtiotest.Options{Features: offloads | MrgRxbuf | CtrlVQ | CtrlGuestOffloads})
	const ctrlQueue = 2
	for range 8 {
		h.Queue(rxQueue).Add(nil, 2000)
	}
	for round := range byte(3) {
		h.Quiet(func() {
			write(t, peers[0], join(noHeader, frame(100, round)), join(noHeader, frame(200, round)))
			h.Queue(txQueue).Add([][]byte{noHeader, frame(300, round)})
			h.Kick(txQueue)
			h.Queue(ctrlQueue).Add(offloadsCommand(GuestCsum), 1)
			h.Kick(ctrlQueue)
			d.SetLink(round%2 == 1)
		}, func() any { return d.Stats() }, rxQueue, txQueue, ctrlQueue)
		_, got, _ := receive(t, h, rxQueue)
		assert.Equal(t, frame(100, round), got)
		_, got, _ = receive(t, h, rxQueue)
		assert.Equal(t, frame(200, round), got)
		h.WaitUsed(txQueue)
		assert.Equal(t, frame(300, round), read(t, peers[0])[hdrLen:])
		h.WaitUsed(ctrlQueue)
		h.ReadConfig(0, cfgSize)
	}
}

// A pause that finds a frame waiting for its back end does not wait for that, and the frame is sent after it.
func TestPauseWhileTheBackEndIsFull(t *testing.T) {
	d, h, peers, _ := start(t, Config{}, 1, virtiotest.Options{})
	for i := range byte(40) {
		h.Queue(txQueue).Add([][]byte{join(noHeader, frame(60000, i))})
	}
	h.Kick(txQueue)
	var last uint64
	until(t, "the back end is full", func() bool {
		before := last
		last = d.Stats().TxPackets
		return last > 0 && last == before
	})
	require.Less(t, last, uint64(40))
	h.Quiet(func() {
		require.Equal(t, frame(60000, 0), read(t, peers[0])) // room, of which nothing is made
	}, func() any { return d.Stats() }, txQueue)
	for i := byte(1); i < 40; i++ {
		require.Equal(t, frame(60000, i), read(t, peers[0]))
	}
}

// A device that gets frames without end is paused all the same, and stopped while it is.
func TestPauseUnderLoad(t *testing.T) {
	d, h, peers, _ := start(t, Config{}, 1, virtiotest.Options{})
	for range 128 {
		h.Queue(rxQueue).Add(nil, 2000)
	}
	h.Kick(rxQueue) // the device may have seen that there were none
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := peers[0].SyscallConn()
		if err != nil {
			return
		}
		for {
			select {
			case <-done:
				return
			default:
				_ = conn.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), frame(1000, 1)) })
			}
		}
	}()
	until(t, "frames come", func() bool { return d.Stats().RxPackets > 20 })
	require.NoError(t, h.Core.Pause(t.Context()))
	require.NoError(t, h.Core.Pause(t.Context()))
	h.Core.Close()
	close(done)
	<-ended
}
