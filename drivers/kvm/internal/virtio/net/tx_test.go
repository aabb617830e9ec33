//go:build linux

package net

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// A frame arrives whole, however the guest cuts it.
func TestTransmit(t *testing.T) {
	for _, vnet := range []bool{false, true} {
		for _, o := range []virtiotest.Options{{}, {EventIdx: true}, {Packed: true}, {Indirect: true}} {
			d, h, peer, _ := start(t, Config{Backend: Backend{VNetHdr: vnet}}, 1, o)
			f := frame(1514, 3)
			all := join(noHeader, f)
			want := f
			if vnet {
				want = all
			}
			cuts := [][][]byte{{all}, {noHeader, f}, {noHeader[:5], noHeader[5:], f}, {all[:20], all[20:]}, split(all, 200), split(all, 8)}
			for _, parts := range cuts {
				send(t, h, txQueue, parts...)
				assert.Equal(t, want, read(t, peer[0]), "%d parts", len(parts))
			}
			s := d.Stats()
			assert.Equal(t, uint64(len(cuts)), s.TxPackets)
			assert.Equal(t, uint64(len(cuts)*len(f)), s.TxBytes)
			assert.Zero(t, s.TxDrops+s.TxErrors)
		}
	}
}

const offloads = Csum | GuestCsum | HostTSO4 | HostTSO6 | GuestTSO4 | GuestTSO6

func TestHeaderOfTransmittedFrames(t *testing.T) {
	const none = uint64(0)
	long := uint64(maxFrame)
	for _, tc := range []struct {
		name     string
		h        []byte
		size     uint64
		features uint64
		ok       bool
	}{
		{"plain", noHeader, 60, none, true},
		{"shortest", noHeader, ethLen, none, true},
		{"too short", noHeader, ethLen - 1, none, false},
		{"longest", noHeader, long, none, true},
		{"too long", noHeader, long + 1, none, false},
		{"checksum", header(1, 0, 0, 0, 34, 16, 0), 60, offloads, true},
		{"checksum at the end", header(1, 0, 0, 0, 42, 16, 0), 60, offloads, true},
		{"checksum beyond the end", header(1, 0, 0, 0, 43, 16, 0), 60, offloads, false},
		{"checksum beyond 16 bits", header(1, 0, 0, 0, 0xffff, 0xffff, 0), long, offloads, false},
		{"checksum start beyond", header(1, 0, 0, 0, 0xffff, 0, 0), 60, offloads, false},
		{"checksum in the Ethernet header", header(1, 0, 0, 0, 13, 16, 0), 60, offloads, false},
		{"checksum not negotiated", header(1, 0, 0, 0, 34, 16, 0), 60, none, false},
		{"TSO4", header(1, 1, 54, 1448, 34, 16, 0), 9000, offloads, true},
		{"TSO6", header(1, 4, 74, 1428, 54, 16, 0), 9000, offloads, true},
		{"TSO4 not negotiated", header(1, 1, 54, 1448, 34, 16, 0), 9000, offloads &^ HostTSO4, false},
		{"TSO6 not negotiated", header(1, 4, 74, 1428, 54, 16, 0), 9000, offloads &^ HostTSO6, false},
		{"TSO without checksum", header(0, 1, 54, 1448, 34, 16, 0), 9000, offloads, false},
		{"TSO of size 0", header(1, 1, 54, 0, 34, 16, 0), 9000, offloads, false},
		{"TSO with headers beyond the end", header(1, 1, 61, 1448, 34, 16, 0), 60, offloads, false},
		{"UFO", header(1, 3, 42, 1448, 34, 6, 0), 9000, offloads, false},
		{"USO", header(1, 5, 42, 1448, 34, 6, 0), 9000, offloads, false},
		{"ECN", header(1, 0x81, 54, 1448, 34, 16, 0), 9000, offloads, false},
		{"unknown kind", header(1, 0x7f, 54, 1448, 34, 16, 0), 9000, offloads, false},
		{"ignored fields", header(0xfe, 0, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff), 60, none, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := [hdrLen]byte(tc.h)
			err := checkTx(&h, tc.size, effective(tc.features))
			assert.Equal(t, tc.ok, err == nil, "%v", err)
			cleanTx(&h)
			if tc.h[0]&1 == 0 && tc.h[1] == 0 {
				assert.Equal(t, noHeader, h[:], "what is ignored does not reach the back end")
			}
		})
	}
	h := [hdrLen]byte(header(1, 1, 54, 1448, 34, 16, 7))
	cleanTx(&h)
	assert.Equal(t, header(1, 1, 54, 1448, 34, 16, 0), h[:])
}

// What is wrong with one frame is counted and hurts no other.
func TestMalformedFrames(t *testing.T) {
	d, h, peer, _ := start(t, Config{Backend: Backend{VNetHdr: true, Offloads: true}}, 1, virtiotest.Options{Features: offloads})
	good := frame(100, 9)
	var errors uint64
	bad := func(parts ...[]byte) {
		send(t, h, txQueue, parts...)
		errors++
		assert.Equal(t, errors, d.Stats().TxErrors)
		send(t, h, txQueue, noHeader, good)
		assert.Equal(t, join(noHeader, good), read(t, peer[0]))
	}
	bad(noHeader)
	bad(noHeader[:11])
	bad(noHeader, frame(ethLen-1, 0))
	bad(noHeader, frame(maxFrame+1, 0))
	bad(noHeader, frame(200<<10, 0), frame(200<<10, 1))
	bad(header(1, 0, 0, 0, 0xffff, 0, 0), frame(60, 0))
	bad(header(1, 1, 54, 0, 34, 16, 0), frame(60, 0))

	// Only buffers to write; a chain out of memory, one that wraps around, one in the hole where devices are.
	q := h.Queue(txQueue)
	head := q.Alloc(hdrLen)
	for _, list := range [][]virtqtest.Buffer{
		{{Addr: head, Len: 100, Write: true}},
		{{Addr: head, Len: hdrLen}, {Addr: 64<<20 - 8, Len: 64}},
		{{Addr: head, Len: hdrLen}, {Addr: ^uint64(0) - 8, Len: 64}},
		{{Addr: head, Len: hdrLen}, {Addr: 0xfebf0000, Len: 64}},
		{{Addr: head, Len: hdrLen, Write: true}, {Addr: head, Len: 64}},
	} {
		q.AddBuffers(list)
		h.Kick(txQueue)
		h.WaitUsed(txQueue)
		errors++
		assert.Equal(t, errors, d.Stats().TxErrors)
	}
	send(t, h, txQueue, noHeader, good)
	assert.Equal(t, join(noHeader, good), read(t, peer[0]))
	assert.Empty(t, h.Failures())
	assert.Zero(t, d.Stats().TxDrops)
}

// A back end that takes no more makes the guest wait, and nothing is dropped.
func TestTransmitBackpressure(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {Packed: true, EventIdx: true}} {
		d, h, peer, _ := start(t, Config{}, 1, o)
		const frames = 600
		added, back := 0, 0
		fill := func() {
			for ; added < frames && added-back < 100; added++ {
				h.Queue(txQueue).Add([][]byte{noHeader, frame(4000, byte(added))})
			}
			h.Kick(txQueue)
		}
		fill()
		// Stuck: the socket holds some, the queue the rest.
		until(t, "frames in the socket", func() bool { return d.Stats().TxPackets > 0 })
		for got := range frames {
			require.Equal(t, frame(4000, byte(got)), read(t, peer[0]), "frame %d", got)
			for {
				if _, _, ok := h.Queue(txQueue).Used(); !ok {
					break
				}
				back++
			}
			fill()
		}
		for ; back < frames; back++ {
			h.WaitUsed(txQueue)
		}
		s := d.Stats()
		assert.Equal(t, uint64(frames), s.TxPackets)
		assert.Zero(t, s.TxDrops+s.TxErrors)
	}
}

// A reset does not wait for a back end that takes nothing, and what the back end has not got is not sent afterwards.
func TestResetWhileTransmitting(t *testing.T) {
	d, h, peer, _ := start(t, Config{}, 1, virtiotest.Options{})
	for range 5 {
		before := d.Stats().TxPackets
		for i := range 60 {
			h.Queue(txQueue).Add([][]byte{noHeader, frame(60000, byte(i))})
		}
		h.Kick(txQueue)
		until(t, "a frame sent", func() bool { return d.Stats().TxPackets > before })
		h.Reset()
		for sent := d.Stats().TxPackets - before; sent > 0; sent-- {
			read(t, peer[0])
		}
		h.Begin()
		send(t, h, txQueue, noHeader, frame(80, 1))
		assert.Equal(t, frame(80, 1), read(t, peer[0]))
	}
	assert.Empty(t, h.Failures())
}
