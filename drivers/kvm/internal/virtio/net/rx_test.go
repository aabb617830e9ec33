//go:build linux

package net

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

func TestReceive(t *testing.T) {
	for _, tc := range []struct {
		name    string
		merge   bool
		buffers [][]int // of the guest, each with its parts
		size    int     // of the frame
		used    int
	}{
		{"one buffer", false, [][]int{{1526}}, 1514, 1},
		{"header apart", false, [][]int{{12, 1514}}, 1514, 1},
		{"many parts", false, [][]int{{5, 7, 1, 500, 600, 500}}, 1514, 1},
		{"exactly one of several", true, [][]int{{1526}, {1526}}, 1514, 1},
		{"one byte more", true, [][]int{{1526}, {1526}}, 1515, 2},
		{"two", true, [][]int{{1000}, {1000}}, 1514, 2},
		{"largest", true, repeat([]int{4096}, 17), maxFrame, 17},
		{"small ones", true, repeat([]int{100}, 16), 1514, 16},
		{"parts and buffers", true, repeat([]int{60, 40}, 16), 1514, 16},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, o := range []virtiotest.Options{{}, {EventIdx: true}, {Packed: true}, {Packed: true, EventIdx: true, Indirect: true}} {
				if tc.merge {
					o.Features |= MrgRxbuf
				}
				d, h, peer, _ := start(t, Config{}, 1, o)
				for _, b := range tc.buffers {
					h.Queue(rxQueue).Add(nil, b...)
				}
				h.Kick(rxQueue)
				f := frame(tc.size, 5)
				write(t, peer[0], f)
				head, data, used := receive(t, h, rxQueue)
				assert.Equal(t, header(0, 0, 0, 0, 0, 0, uint16(tc.used)), head)
				assert.True(t, bytes.Equal(f, data))
				assert.Equal(t, tc.used, used)
				assert.Equal(t, uint64(tc.size), d.Stats().RxBytes)
			}
		})
	}
}

func repeat(b []int, n int) (all [][]int) {
	for range n {
		all = append(all, b)
	}
	return all
}

// A frame for which no buffer is large enough is dropped; the buffer serves the next one.
func TestReceiveTooLarge(t *testing.T) {
	d, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{})
	h.Queue(rxQueue).Add(nil, 200)
	h.Kick(rxQueue)
	write(t, peer[0], frame(189, 1), frame(maxFrame+1, 2), frame(ethLen-1, 3), frame(188, 4))
	_, data, _ := receive(t, h, rxQueue)
	assert.Equal(t, frame(188, 4), data)
	assert.Equal(t, uint64(3), d.Stats().RxDrops)
	assert.Equal(t, uint64(1), d.Stats().RxPackets)

	// Mergeable: all that the ring has is not enough, or more buffers than a frame may take.
	d, h, peer, _ = start(t, Config{}, 1, virtiotest.Options{Features: MrgRxbuf, Size: 4})
	for range 4 {
		h.Queue(rxQueue).Add(nil, 100)
	}
	h.Kick(rxQueue)
	write(t, peer[0], frame(389, 1), frame(388, 2))
	_, data, used := receive(t, h, rxQueue)
	assert.Equal(t, frame(388, 2), data)
	assert.Equal(t, 4, used)
	assert.Equal(t, uint64(1), d.Stats().RxDrops)

	d, h, peer, _ = start(t, Config{}, 1, virtiotest.Options{Features: MrgRxbuf})
	h.Queue(rxQueue).Add(nil, hdrLen)
	for range dataQueueSize - 1 {
		h.Queue(rxQueue).Add(nil, 1)
	}
	h.Kick(rxQueue)
	write(t, peer[0], frame(maxMerge, 1), frame(maxMerge-1, 2))
	_, data, used = receive(t, h, rxQueue)
	assert.Equal(t, frame(maxMerge-1, 2), data)
	assert.Equal(t, maxMerge, used)
	assert.Equal(t, uint64(1), d.Stats().RxDrops)
}

// Firecracker's #6031: frames for a guest that gives no buffers, or too few, do not keep the worker busy.
func TestStalledGuestCostsNothing(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {EventIdx: true, Features: MrgRxbuf}, {Packed: true, Features: MrgRxbuf}} {
		_, h, peer, _ := start(t, Config{}, 1, o)
		write(t, peer[0], frame(1514, 1), frame(1514, 2))
		h.Asleep(rxQueue)
		h.Queue(rxQueue).Add(nil, 1000)
		h.Kick(rxQueue)
		if o.Features == 0 { // it is too short, so both frames are dropped
			continue
		}
		h.Asleep(rxQueue)
		h.Queue(rxQueue).Add(nil, 1000)
		h.Kick(rxQueue)
		_, data, _ := receive(t, h, rxQueue)
		assert.Equal(t, frame(1514, 1), data)
		h.Asleep(rxQueue)
		h.Asleep(txQueue)
	}
}

// Firecracker's CVE-2020-16843: more frames than the back end holds while the guest has no buffers, then buffers.
func TestStormWithoutBuffers(t *testing.T) {
	for _, features := range []uint64{0, MrgRxbuf} {
		d, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{Features: features})
		storm := func() (sent int) {
			conn, err := peer[0].SyscallConn()
			require.NoError(t, err)
			for {
				var fault error
				require.NoError(t, conn.Control(func(fd uintptr) { _, fault = unix.Write(int(fd), frame(1514, byte(sent))) }))
				if fault != nil {
					require.Equal(t, unix.EAGAIN, fault)
					return sent
				}
				sent++
			}
		}
		for round := range 3 {
			sent := storm()
			require.Greater(t, sent, 10, "round %d", round)
			assert.Zero(t, d.Stats().RxDrops)
			for i := range sent {
				h.Queue(rxQueue).Add(nil, 1526)
				h.Kick(rxQueue)
				_, data, _ := receive(t, h, rxQueue)
				require.Equal(t, frame(1514, byte(i)), data, "round %d, frame %d", round, i)
			}
		}
		assert.Zero(t, d.Stats().RxDrops)
	}
}

// A frame in several buffers waits for those that the guest has not given yet.
func TestPartOfTheBuffers(t *testing.T) {
	d, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{Features: MrgRxbuf})
	h.Queue(rxQueue).Add(nil, 600)
	h.Kick(rxQueue)
	write(t, peer[0], frame(1514, 1), frame(100, 2))
	for range 3 {
		h.Queue(rxQueue).Add(nil, 600)
		h.Kick(rxQueue)
		runtime.Gosched()
	}
	_, data, used := receive(t, h, rxQueue)
	assert.Equal(t, frame(1514, 1), data)
	assert.Equal(t, 3, used)
	_, data, used = receive(t, h, rxQueue)
	assert.Equal(t, frame(100, 2), data)
	assert.Equal(t, 1, used)
	assert.Zero(t, d.Stats().RxDrops)
}

// Buffers that cannot take a frame are given back, and those behind them are used.
func TestUselessBuffers(t *testing.T) {
	for _, features := range []uint64{0, MrgRxbuf} {
		d, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{Features: features})
		q := h.Queue(rxQueue)
		before := q.Alloc(64)
		for _, list := range [][]virtqtest.Buffer{
			{{Addr: before, Len: 64}},                                                        // to read
			{{Addr: before, Len: hdrLen - 1, Write: true}},                                   // no room for a header
			{{Addr: before, Len: 64, Write: true}, {Addr: 64<<20 - 8, Len: 16, Write: true}}, // across the end of memory
			{{Addr: ^uint64(0) - 8, Len: 1526, Write: true}},                                 // wraps around
			{{Addr: 0xfebf0000, Len: 1526, Write: true}},                                     // a device's registers
		} {
			q.AddBuffers(list)
		}
		q.Add(nil, 1526)
		h.Kick(rxQueue)
		write(t, peer[0], frame(1514, 1))
		for range 5 {
			_, n := h.WaitUsed(rxQueue)
			assert.Zero(t, n)
		}
		_, data, _ := receive(t, h, rxQueue)
		assert.Equal(t, frame(1514, 1), data)
		assert.Equal(t, make([]byte, 64), q.Bytes(before, 64), "nothing was written to them")
		assert.Equal(t, uint64(5), d.Stats().RxErrors)
		assert.Empty(t, h.Failures())
	}
}

func TestHeaderOfReceivedFrames(t *testing.T) {
	for _, tc := range []struct {
		name     string
		h        []byte
		size     int
		offloads uint64
		mtu      uint16
		ok       bool
		flags    byte
	}{
		{"plain", noHeader, 60, 0, 0, true, 0},
		{"too short", noHeader, 13, 0, 0, false, 0},
		{"checksum to be done", header(1, 0, 0, 0, 34, 16, 0), 60, offloads, 0, true, 1},
		{"checksum to be done by a guest that cannot", header(1, 0, 0, 0, 34, 16, 0), 60, 0, 0, false, 0},
		{"checksum known to be right", header(2, 0, 0, 0, 0, 0, 0), 60, offloads, 0, true, 2},
		{"a guest that does not know of that", header(2, 0, 0, 0, 0, 0, 0), 60, 0, 0, true, 0},
		{"unknown flags", header(0xfc, 0, 0, 0, 0, 0, 0), 60, offloads, 0, true, 0},
		{"TSO4", header(1, 1, 54, 1448, 34, 16, 0), 60000, offloads, 1500, true, 1},
		{"TSO4 not wanted", header(1, 1, 54, 1448, 34, 16, 0), 60000, offloads &^ GuestTSO4, 0, false, 0},
		{"TSO6 not wanted", header(1, 4, 54, 1448, 34, 16, 0), 60000, offloads &^ GuestTSO6, 0, false, 0},
		{"ECN", header(1, 0x81, 54, 1448, 34, 16, 0), 60000, offloads, 0, false, 0},
		{"MTU and a VLAN tag", noHeader, 1518, 0, 1500, true, 0},
		{"more than the MTU", noHeader, 1519, 0, 1500, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := [hdrLen]byte(tc.h)
			err := checkRx(&h, tc.size, tc.offloads, tc.mtu)
			assert.Equal(t, tc.ok, err == nil, "%v", err)
			if tc.ok {
				assert.Equal(t, tc.flags, h[hdrFlags])
			}
		})
	}
}

func TestReceiveWithHeaders(t *testing.T) {
	_, h, peer, _ := start(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, 1, virtiotest.Options{Features: offloads | MrgRxbuf})
	for range 20 {
		h.Queue(rxQueue).Add(nil, 4096)
	}
	h.Kick(rxQueue)
	write(t, peer[0], join(header(1, 1, 54, 1448, 34, 16, 99), frame(60000, 1)), []byte{1, 2, 3}, join(noHeader, frame(64, 2)))
	head, data, used := receive(t, h, rxQueue)
	assert.Equal(t, header(1, 1, 54, 1448, 34, 16, 15), head)
	assert.True(t, bytes.Equal(frame(60000, 1), data))
	assert.Equal(t, 15, used)
	_, data, _ = receive(t, h, rxQueue)
	assert.Equal(t, frame(64, 2), data)
}

// Resets while frames come: none is written to memory afterwards, and traffic goes on after each.
func TestResetWhileReceiving(t *testing.T) {
	_, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{Features: MrgRxbuf})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := byte(0); ; i++ {
			if _, err := peer[0].Write(frame(3000, i)); err != nil {
				return
			}
		}
	}()
	for range 20 {
		// The guest's buffers lie one after the other.
		const size, n = 1536, 200
		q := h.Queue(rxQueue)
		at := q.Alloc(n * size)
		for i := range n {
			q.AddBuffers([]virtqtest.Buffer{{Addr: at + uint64(i*size), Len: size, Write: true}})
		}
		h.Kick(rxQueue)
		_, data, used := receive(t, h, rxQueue)
		require.Len(t, data, 3000)
		require.Equal(t, 2, used)
		h.Reset()
		mem := q.Bytes(at, n*size)
		clear(mem)
		time.Sleep(time.Millisecond) // the back end goes on
		require.True(t, bytes.Equal(make([]byte, n*size), mem), "written to after the reset")
		h.Begin()
	}
	peer[0].Close()
	<-done
	assert.Empty(t, h.Failures())
}

func TestRingFault(t *testing.T) {
	for _, queue := range []int{rxQueue, txQueue} {
		_, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{})
		h.Queue(queue).Offer(0xffff)
		h.Kick(queue)
		h.WaitConfigInterrupt()
		assert.NotZero(t, h.Core.Status()&virtio.StatusNeedsReset)
		h.Reset()
		h.Begin()
		send(t, h, txQueue, noHeader, frame(64, 1))
		assert.Equal(t, frame(64, 1), read(t, peer[0]))
		require.Len(t, h.Failures(), 1)
	}
}

// The number of buffers is in the first before the driver sees any of them as used, and it sees all at once.
func TestMergedBuffersAppearTogether(t *testing.T) {
	_, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{Features: MrgRxbuf})
	q := h.Queue(rxQueue)
	index := q.Bytes(q.Config().Device+2, 2)
	for range 300 {
		before := binary.LittleEndian.Uint16(index)
		for range 12 {
			q.Add(nil, 150)
		}
		h.Kick(rxQueue)
		write(t, peer[0], frame(1514, 1))
		until(t, "a frame", func() bool {
			for range 1000 {
				if now := binary.LittleEndian.Uint16(index); now != before {
					require.Equal(t, before+11, now)
					return true
				}
			}
			return false
		})
		_, _, used := receive(t, h, rxQueue)
		require.Equal(t, 11, used)
		// The buffer left over would serve the next frame.
		h.Reset()
		h.Begin()
		q = h.Queue(rxQueue)
		index = q.Bytes(q.Config().Device+2, 2)
	}
}
