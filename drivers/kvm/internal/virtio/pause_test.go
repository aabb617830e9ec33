package virtio_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

// A pause waits for the request under way, no other is begun, and none is lost.
func TestPause(t *testing.T) {
	dev := &echo{slow: make(chan struct{})}
	h := virtiotest.Start(t, dev, virtiotest.Options{})
	answer := func() { <-dev.slow; dev.slow <- struct{}{} }
	for range 8 { // two batches
		h.Queue(0).Add([][]byte{{1}}, 1)
	}
	h.Kick(0)
	<-dev.slow
	paused := make(chan error, 1)
	go func() { paused <- h.Core.Pause(t.Context()) }()
	select {
	case <-paused:
		t.Fatal("a request is under way")
	case <-time.After(10 * time.Millisecond):
	}
	dev.slow <- struct{}{}
	finished := 1
	for done := false; !done; { // the rest of the batch may be done
		select {
		case err := <-paused:
			require.NoError(t, err)
			done = true
		case <-dev.slow:
			dev.slow <- struct{}{}
			finished++
		}
	}
	require.LessOrEqual(t, finished, 4, "a batch")
	for range finished {
		_, _, ok := h.Queue(0).Used()
		require.True(t, ok)
	}
	h.Kick(0)
	select {
	case <-dev.slow:
		t.Fatal("a request is begun on a paused device")
	case <-time.After(10 * time.Millisecond):
	}
	require.NoError(t, h.Core.Pause(t.Context()), "it is paused already")
	h.Core.Resume()
	h.Core.Resume()
	for range 8 - finished {
		answer()
	}
	for range 8 - finished {
		h.WaitUsed(0)
	}
}

// A pause that is given up leaves a device at work, and one that is killed leaves nothing.
func TestPauseGivenUp(t *testing.T) {
	dev := &echo{slow: make(chan struct{})}
	h := virtiotest.Start(t, dev, virtiotest.Options{})
	h.Queue(0).Add([][]byte{{1}}, 1)
	h.Kick(0)
	<-dev.slow
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, h.Core.Pause(ctx), context.Canceled)
	dev.slow <- struct{}{}
	h.WaitUsed(0)
	h.Queue(0).Add([][]byte{{1}}, 1)
	h.Kick(0)
	<-dev.slow
	dev.slow <- struct{}{}
	h.WaitUsed(0)

	require.NoError(t, h.Core.Pause(t.Context()))
	h.Core.Close()
	require.EqualValues(t, 1, dev.stops.Load())

	never := virtiotest.New(t, &echo{}, virtiotest.Options{})
	require.NoError(t, never.Core.Pause(t.Context()), "a device that was never started is quiet")
	never.Core.Resume()
}

// What a paused device would tell of its configuration it tells afterwards.
func TestPauseKeepsConfigInterrupts(t *testing.T) {
	dev := &echo{}
	h := virtiotest.Start(t, dev, virtiotest.Options{})
	h.Do(0, [][]byte{{1}}, 1)
	require.NoError(t, h.Core.Pause(t.Context()))
	before := h.Core.Generation()
	dev.run.Load().ConfigChanged()
	require.False(t, h.ConfigInterrupted())
	h.Core.Resume()
	h.WaitConfigInterrupt()
	require.NotEqual(t, before, h.Core.Generation())
	require.NoError(t, h.Core.Pause(t.Context()))
	h.Core.Resume()
	require.False(t, h.ConfigInterrupted(), "once is enough")
	require.NotZero(t, h.Core.Status()&virtio.StatusDriverOK)
}
