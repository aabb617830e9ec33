package rng

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// counting is a source of rising bytes.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

func TestFillsBuffers(t *testing.T) {
	for _, o := range []virtiotest.Options{{}, {Packed: true, EventIdx: true, Indirect: true}} {
		d := New(Config{Source: &counting{}})
		h := virtiotest.Start(t, d, o)
		require.Equal(t, []byte{1, 2, 3, 4}, h.Do(0, nil, 4))
		require.Equal(t, []byte{5, 6}, h.Do(0, nil, 2, 7), "the first buffer is enough")
		require.Len(t, h.Do(0, nil, 3*maxRequest), maxRequest)
		require.Empty(t, h.Do(0, [][]byte{{1}}), "nowhere to write to")
		require.Equal(t, Stats{Requests: 3, Bytes: 6 + maxRequest, Errors: 1}, d.Stats())
		h.Reset()
		h.Begin()
		require.Len(t, h.Do(0, nil, 10), 10)
	}
}

func TestRate(t *testing.T) {
	d := New(Config{Source: &counting{}, BytesPerSecond: 1000})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	begin := time.Now()
	got := 0
	for got < 1300 {
		got += len(h.Do(0, nil, 500))
	}
	require.GreaterOrEqual(t, time.Since(begin), 250*time.Millisecond, "a second's worth at once, the rest in time")
	h.Queue(0).Add(nil, 1000)
	h.Queue(0).Add(nil, 1000)
	h.Kick(0)
	h.Reset() // does not wait for the rate
}

// A source that fails is told of; the guest waits, and a reset ends its wait.
func TestSourceFails(t *testing.T) {
	var told atomic.Int32
	d := New(Config{Source: io.MultiReader(bytes.NewReader([]byte{7})), OnError: func(error) { told.Add(1) }})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	require.Equal(t, []byte{7}, h.Do(0, nil, 1))
	h.Queue(0).Add(nil, 1)
	h.Kick(0)
	require.Eventually(t, func() bool { return told.Load() == 1 }, virtiotest.Patience, time.Millisecond)
	h.Reset()
	require.EqualValues(t, 1, d.Stats().Errors)
	require.Empty(t, h.Failures())
}

func TestBrokenRing(t *testing.T) {
	h := virtiotest.Start(t, New(Config{Source: &counting{}}), virtiotest.Options{})
	h.Queue(0).Offer(1000)
	h.Kick(0)
	h.WaitConfigInterrupt()
	require.NotZero(t, h.Core.Status()&virtio.StatusNeedsReset)
	require.Len(t, h.Failures(), 1)
	h.Reset()
	h.Begin()
	require.Len(t, h.Do(0, nil, 3), 3)
}

// A request that is wrong costs the guest that request.
func TestBadRequest(t *testing.T) {
	d := New(Config{Source: &counting{}})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	h.Queue(0).AddBuffers([]virtqtest.Buffer{{Addr: 1 << 40, Len: 8, Write: true}})
	h.Kick(0)
	_, written := h.WaitUsed(0)
	require.Zero(t, written)
	require.Equal(t, []byte{1}, h.Do(0, nil, 1))
	require.EqualValues(t, 1, d.Stats().Errors)
}

func TestNothingIsAllocated(t *testing.T) {
	d := New(Config{Source: &counting{}, BytesPerSecond: 1 << 40})
	c := virtq.Chain{Writable: [][]byte{make([]byte, 16)}}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if n, err := d.fill(&virtio.Queue{}, &c); n != 16 || err != nil {
			t.Fatal(n, err)
		}
	}))
}

func FuzzRequests(f *testing.F) {
	f.Add(uint64(0x1000), uint32(8), true)
	f.Add(uint64(1)<<63, uint32(1)<<31, true)
	f.Add(uint64(0), uint32(0), false)
	f.Fuzz(func(t *testing.T, addr uint64, n uint32, write bool) {
		h := virtiotest.Start(t, New(Config{Source: &counting{}}), virtiotest.Options{Memory: 2 << 20, Space: 1 << 20})
		h.Queue(0).AddBuffers([]virtqtest.Buffer{{Addr: addr, Len: n, Write: write}})
		w := h.Queue(0).Watch()
		h.Kick(0)
		_, written := h.WaitUsed(0)
		require.LessOrEqual(t, written, min(n, maxRequest))
		w.Check()
	})
}
