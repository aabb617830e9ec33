package virtq_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

const (
	next     = 1
	write    = 2
	indirect = 4
)

// Requests that are wrong in themselves are told, given back, and the next one is served.
func TestBadChains(t *testing.T) {
	const end = 16 << 20 // of memory
	for name, tt := range map[string]struct {
		o    virtqtest.Options
		want string
		make func(d *virtqtest.Driver) // writes descriptors from 0 on
	}{
		"beyond memory":          {want: "not in guest memory", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), end, 1, 0, 0) }},
		"over the end":           {want: "not in guest memory", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), end-1, 2, 0, 0) }},
		"64 bits overflow":       {want: "not in guest memory", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), ^uint64(0), 2, 0, 0) }},
		"in the hole of devices": {want: "not in guest memory", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0xfebc0000, 16, 0, 0) }},
		"circle of one":          {want: "circle", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0x1000, 1, next, 0) }},
		"circle of two": {want: "circle", make: func(d *virtqtest.Driver) {
			virtqtest.Put(d.Desc(0), 0x1000, 1, next, 1)
			virtqtest.Put(d.Desc(1), 0x1000, 1, next, 0)
		}},
		"next too large": {want: "larger than the table", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0x1000, 1, next, 8) }},
		"read after write": {want: "comes after", make: func(d *virtqtest.Driver) {
			virtqtest.Put(d.Desc(0), 0x1000, 1, next|write, 1)
			virtqtest.Put(d.Desc(1), 0x1000, 1, 0, 0)
		}},
		"read after write of nothing it needs": {want: "comes after", make: func(d *virtqtest.Driver) {
			virtqtest.Put(d.Desc(0), 0x1000, 1, next|write, 1)
			virtqtest.Put(d.Desc(1), 0x1000, 0, 0, 0)
		}},
		"too long": {want: "too long", make: func(d *virtqtest.Driver) {
			virtqtest.Put(d.Desc(0), 0, end, next, 1)
			virtqtest.Put(d.Desc(1), 0, 0xffffffff, 0, 0)
		}},
		"indirect, not negotiated": {want: "not negotiated", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0x1000, 16, indirect, 0) }},
		"indirect of 15 bytes":     {o: virtqtest.Options{Indirect: true}, want: "multiple of 16", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0x1000, 15, indirect, 0) }},
		"indirect of nothing":      {o: virtqtest.Options{Indirect: true}, want: "multiple of 16", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0x1000, 0, indirect, 0) }},
		"indirect, 4 GiB":          {o: virtqtest.Options{Indirect: true}, want: "too many", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0, 0xfffffff0, indirect, 0) }},
		"indirect beyond memory":   {o: virtqtest.Options{Indirect: true}, want: "not in guest memory", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), end, 16, indirect, 0) }},
		"indirect and next":        {o: virtqtest.Options{Indirect: true}, want: "where none may be", make: func(d *virtqtest.Driver) { virtqtest.Put(d.Desc(0), 0x1000, 16, indirect|next, 1) }},
		"indirect in indirect": {o: virtqtest.Options{Indirect: true}, want: "where none may be", make: func(d *virtqtest.Driver) {
			virtqtest.Put(d.Desc(0), 0x1000, 16, indirect, 0)
			virtqtest.Put(d.Bytes(0x1000, 16), 0x1000, 16, indirect, 0)
		}},
		"indirect, next too large": {o: virtqtest.Options{Indirect: true}, want: "larger than the table", make: func(d *virtqtest.Driver) {
			virtqtest.Put(d.Desc(0), 0x1000, 16, indirect, 0)
			virtqtest.Put(d.Bytes(0x1000, 16), 0x2000, 1, next, 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d, q := pair(t, 8, tt.o)
			good := d.Add(nil, 4)
			var c virtq.Chain
			ok, err := q.Pop(&c)
			require.NoError(t, err)
			require.True(t, ok)
			q.Push(&c, 0)
			_, _, _ = d.Used()

			tt.make(d)
			d.Offer(0)
			ok, err = q.Pop(&c)
			require.False(t, ok)
			var bad *virtq.ChainError
			require.ErrorAs(t, err, &bad)
			require.ErrorContains(t, err, tt.want)
			require.Equal(t, 1, q.InFlight())
			q.Push(&c, 100)
			require.Zero(t, q.InFlight())
			used := d.Bytes(d.Config().Device, 4+8*8)
			require.EqualValues(t, 2, binary.LittleEndian.Uint16(used[2:]))
			require.Zero(t, binary.LittleEndian.Uint32(used[4+8:]))

			virtqtest.Put(d.Desc(good), 0x1000, 4, write, 0)
			d.Offer(good)
			ok, err = q.Pop(&c)
			require.NoError(t, err)
			require.True(t, ok)
		})
	}
}

func TestBrokenRings(t *testing.T) {
	t.Run("index ahead by more than the size", func(t *testing.T) {
		d, q := pair(t, 8, virtqtest.Options{})
		guestmem.Store16(d.Bytes(d.Config().Driver+2, 2), 9)
		requireBroken(t, q)
	})
	t.Run("a head beyond the table", func(t *testing.T) {
		d, q := pair(t, 8, virtqtest.Options{})
		d.Offer(8)
		requireBroken(t, q)
	})
	t.Run("a request over and over", func(t *testing.T) {
		d, q := pair(t, 8, virtqtest.Options{})
		virtqtest.Put(d.Desc(0), 0x1000, 1, 0, 0)
		for range 8 {
			d.Offer(0)
			ok, err := q.Pop(new(virtq.Chain))
			require.NoError(t, err)
			require.True(t, ok)
		}
		d.Offer(0)
		requireBroken(t, q)
		require.Equal(t, 8, q.InFlight(), "what is in flight is bounded")
	})
	t.Run("packed, a chain without end", func(t *testing.T) {
		d, q := pair(t, 8, virtqtest.Options{Packed: true})
		for i := range uint16(8) {
			virtqtest.Put(d.Desc(i), 0x1000, 1, 0, next|1<<7)
		}
		requireBroken(t, q)
	})
	t.Run("packed, all in flight", func(t *testing.T) {
		d, q := pair(t, 4, virtqtest.Options{Packed: true})
		for range 4 {
			d.Add(nil, 1)
			ok, err := q.Pop(new(virtq.Chain))
			require.NoError(t, err)
			require.True(t, ok)
		}
		virtqtest.Put(d.Desc(0), 0x1000, 1, 0, 1<<15) // available at the next turn
		requireBroken(t, q)
	})
}

func requireBroken(t *testing.T, q *virtq.Queue) {
	t.Helper()
	ok, err := q.Pop(new(virtq.Chain))
	require.False(t, ok)
	var broken *virtq.RingError
	require.ErrorAs(t, err, &broken)
}

// A buffer that reaches from the memory below the hole into that above lies in neither.
func TestBuffersLieInOneRegion(t *testing.T) {
	d, q := pair(t, 4, virtqtest.Options{})
	virtqtest.Put(d.Desc(0), guestmem.HoleStart-16, 1<<30+32, 0, 0)
	d.Offer(0)
	_, err := q.Pop(new(virtq.Chain))
	require.ErrorContains(t, err, "not in guest memory")
}

// Buffers before an indirect table count with those in it: a chain is no longer than the queue.
func TestChainWithTableIsBounded(t *testing.T) {
	d, q := pair(t, 4, virtqtest.Options{Indirect: true})
	table := d.Bytes(0x1000, 16*4)
	for i := range uint16(4) {
		virtqtest.Put(table[16*i:], 0x2000, 1, next, i+1)
	}
	virtqtest.Put(table[16*3:], 0x2000, 1, 0, 0)
	virtqtest.Put(d.Desc(0), 0x2000, 1, next, 1)
	virtqtest.Put(d.Desc(1), 0x1000, 16*4, indirect, 0)
	d.Offer(0)
	var c virtq.Chain
	_, err := q.Pop(&c)
	require.ErrorContains(t, err, "too many descriptors")
	q.Push(&c, 0)
	virtqtest.Put(d.Desc(1), 0x1000, 16*3, indirect, 0)
	virtqtest.Put(table[16*2:], 0x2000, 1, 0, 0)
	d.Offer(0)
	ok, err := q.Pop(&c)
	require.NoError(t, err)
	require.True(t, ok)
	require.Len(t, c.Readable, 4)
}

// An index that goes back, or ahead of what was given back, breaks the ring at each Pop.
func TestIndexThatLies(t *testing.T) {
	for _, step := range []uint16{^uint16(0), 4, 5, 1 << 15} {
		d, q := pair(t, 4, virtqtest.Options{})
		d.Add(nil, 1)
		var c virtq.Chain
		ok, err := q.Pop(&c)
		require.NoError(t, err)
		require.True(t, ok)
		guestmem.Store16(d.Bytes(d.Config().Driver+2, 2), 1+step)
		requireBroken(t, q)
		q.EnableKicks()
		requireBroken(t, q)
		require.Equal(t, 1, q.InFlight())
	}
}

// Most requests are of one buffer; wherever it lies and whatever it is, it comes out as the driver wrote it.
func TestSingleBuffers(t *testing.T) {
	mem := virtqtest.Memory(t, guestmem.HoleStart+1<<20)
	d := virtqtest.New(t, mem, 0x10000, 1<<20, 8, virtqtest.Options{})
	q, err := virtq.New(mem, d.Config())
	require.NoError(t, err)
	var c virtq.Chain
	for _, tt := range []struct {
		addr uint64
		n    uint32
		ok   bool
	}{
		{0x200000, 4096, true}, {guestmem.HoleEnd, 1, true}, {guestmem.HoleEnd + 1<<20 - 8, 8, true}, {guestmem.HoleEnd + 1<<20 - 8, 9, false},
		{guestmem.HoleStart - 1, 1, true}, {guestmem.HoleStart - 1, 2, false}, {guestmem.HoleEnd - 1, 1, false}, {0x200000, 0, true}, {0, 1, true},
	} {
		for _, flags := range []uint16{0, write} {
			virtqtest.Put(d.Desc(0), tt.addr, tt.n, flags, 0)
			d.Offer(0)
			ok, err := q.Pop(&c)
			require.Equal(t, tt.ok, ok, "%+v", tt)
			require.Equal(t, tt.ok, err == nil, "%+v", tt)
			if ok && tt.n > 0 {
				got := c.Readable
				if flags == write {
					got = c.Writable
				}
				require.Len(t, c.Readable, 1-int(flags/write))
				require.Len(t, c.Writable, int(flags/write))
				require.EqualValues(t, tt.n, c.ReadableLen()+c.WritableLen())
				require.Same(t, &d.Bytes(tt.addr, uint64(tt.n))[0], &got[0][0])
				require.Equal(t, int(tt.n), cap(got[0]), "a device cannot write beyond it")
			}
			q.Push(&c, 0)
		}
	}
}

// A device that sleeps when EnableKicks says that nothing came, and a driver that kicks when the device wants it, never
// wait for each other.
func TestNoWakeUpIsLost(t *testing.T) {
	for _, o := range []virtqtest.Options{{}, {EventIdx: true}, {Packed: true}, {Packed: true, EventIdx: true}} {
		d, q := pair(t, 8, o)
		const requests = 5000
		kicks := make(chan struct{}, 1)
		var served atomic.Int64
		done := make(chan error, 1)
		go func() {
			var c virtq.Chain
			for served.Load() < requests {
				ok, err := q.Pop(&c)
				if err != nil {
					done <- err
					return
				}
				if ok {
					q.Push(&c, 0)
					served.Add(1)
					continue
				}
				if !q.EnableKicks() {
					<-kicks
				}
				q.DisableKicks()
			}
			done <- nil
		}()
		for n := range int64(requests) {
			for n-served.Load() >= 4 {
			}
			for {
				if _, _, ok := d.Used(); !ok {
					break
				}
			}
			d.Add(nil, 1)
			if d.KickWanted() {
				select {
				case kicks <- struct{}{}:
				default:
				}
			}
		}
		require.NoError(t, <-done)
	}
}
