package blk

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// All kinds of ring, more requests than the ring holds at a time, and more than the device takes at a time.
func TestRings(t *testing.T) {
	for _, o := range []virtiotest.Options{
		{}, {EventIdx: true}, {Indirect: true}, {Packed: true}, {Packed: true, EventIdx: true, Indirect: true}, {Size: 8, EventIdx: true},
	} {
		img := newMemory(diskSize)
		d := newDevice(t, Config{Image: img})
		o.Features = d.Features()
		h := virtiotest.Start(t, d, o)
		q := h.Queue(0)
		for round := range 200 {
			data := noise(uint64(round), 1024)
			sector := uint64(round * 2)
			b := h.Do(0, [][]byte{header(typeOut, sector), data[:512], data[512:]}, 1)
			require.Equal(t, []byte{statusOK}, b)
			require.Equal(t, append(bytes.Clone(data), statusOK), h.Do(0, [][]byte{header(typeIn, sector)}, 1024, 1))
		}
		// As many at a time as fit.
		size := int(q.Config().Size)
		if !o.Indirect {
			size /= 3
		}
		for range 20 {
			for range size {
				q.Add([][]byte{header(typeIn, 4)}, 512, 1)
			}
			h.Kick(0)
			for range size {
				_, written := h.WaitUsed(0)
				require.EqualValues(t, 513, written)
			}
		}
		assert.Empty(t, h.Failures())
	}
}

// A chain that is wrong in itself is given back, and the next one served; a ring that is wrong ends the device until
// the guest resets it.
func TestBrokenRing(t *testing.T) {
	img := newMemory(diskSize)
	g := boot(t, Config{Image: img})
	q := g.h.Queue(0)
	for name, list := range map[string][]virtqtest.Buffer{
		"outside of memory":   {{Addr: 1 << 40, Len: 16}, {Addr: q.Alloc(1), Len: 1, Write: true}},
		"status outside":      {{Addr: q.Alloc(16), Len: 16}, {Addr: 1 << 40, Len: 1, Write: true}},
		"overflows":           {{Addr: ^uint64(0) - 5, Len: 16}, {Addr: q.Alloc(1), Len: 1, Write: true}},
		"readable after room": {{Addr: q.Alloc(1), Len: 1, Write: true}, {Addr: q.Alloc(16), Len: 16}},
	} {
		id := q.AddBuffers(list)
		g.kick(0)
		got, written := g.h.WaitUsed(0)
		assert.Equal(t, id, got, name)
		assert.Zero(t, written, name)
	}
	assert.EqualValues(t, 4, g.dev.Stats().Invalid)
	require.EqualValues(t, statusOK, g.flush(0))
	require.Empty(t, g.h.Failures())

	// More requests than there are entries.
	avail := q.Bytes(q.Config().Driver, 4)
	guestmem.Store16(avail[2:], guestmem.Load16(avail[2:])+1000)
	g.kick(0)
	g.h.WaitConfigInterrupt()
	require.Len(t, g.h.Failures(), 1)
	assert.NotZero(t, g.h.Core.Status()&virtio.StatusNeedsReset)
	g.reset()
	g.start(g.features)
	require.EqualValues(t, statusOK, g.flush(0))
}
