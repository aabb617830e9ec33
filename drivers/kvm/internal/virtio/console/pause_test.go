package console

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
)

// A paused console takes input, and neither gives it to the guest nor prints; then it goes on.
func TestPause(t *testing.T) {
	out := &screen{}
	d := New(Config{Output: out})
	h := virtiotest.Start(t, d, virtiotest.Options{Features: featureSize})
	h.Do(transmitQueue, [][]byte{[]byte("before ")})
	in := h.Queue(receiveQueue).Add(nil, 16)
	h.Quiet(func() {
		assert.Equal(t, 5, d.Input([]byte("typed")))
		h.Queue(transmitQueue).Add([][]byte{[]byte("after")})
		h.Kick(transmitQueue)
		d.Resize(100, 30)
	}, func() any { return d.Stats() }, receiveQueue, transmitQueue)
	id, n := h.WaitUsed(receiveQueue)
	require.Equal(t, in, id)
	assert.Equal(t, "typed", string(h.Queue(receiveQueue).Written(id)[:n]))
	h.WaitUsed(transmitQueue)
	assert.Equal(t, "before after", string(out.text()))
	h.WaitConfigInterrupt()
}
