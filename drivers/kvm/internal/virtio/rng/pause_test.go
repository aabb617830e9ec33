package rng

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

// A paused device gives nothing, also if the pause comes while it waits for its rate.
func TestPause(t *testing.T) {
	for _, rate := range []uint64{0, 50} {
		d := New(Config{Source: &counting{}, BytesPerSecond: rate})
		h := virtiotest.Start(t, d, virtiotest.Options{})
		require.NotEmpty(t, h.Do(0, nil, 50)) // all of the rate
		for n := uint64(2); n < 8; n += 2 {
			h.Queue(0).Add(nil, 1) // its answer may come before the pause
			h.Kick(0)
			h.Quiet(func() {
				h.Queue(0).Add(nil, 1)
				h.Kick(0)
			}, func() any { return d.Stats() }, 0)
			for limit := time.Now().Add(virtiotest.Patience); d.Stats().Requests < n+1; time.Sleep(time.Millisecond) {
				require.True(t, time.Now().Before(limit), "%+v", d.Stats())
			}
		}
	}
}
