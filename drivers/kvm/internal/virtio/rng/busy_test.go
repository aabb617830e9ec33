package rng

import (
	"encoding/binary"
	"testing"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq/virtqtest"
)

// feeding is a source whose bytes, read two at a time into the index of the available ring, always offer ten requests
// more.
type feeding struct{ n uint16 }

func (f *feeding) Read(p []byte) (int, error) {
	f.n++
	return copy(p, binary.LittleEndian.AppendUint16(nil, f.n+10)), nil
}

// A ring that never runs empty, here because the guest has the device itself fill it, does not keep a reset from ending.
func TestResetUnderEndlessRequests(t *testing.T) {
	d := New(Config{Source: &feeding{}})
	h := virtiotest.Start(t, d, virtiotest.Options{})
	q := h.Queue(0)
	avail := q.Config().Driver
	ring := q.Bytes(avail+4, 2*queueSize)
	id := q.AddBuffers([]virtqtest.Buffer{{Addr: avail + 2, Len: 2, Write: true}})
	for i := range queueSize {
		binary.LittleEndian.PutUint16(ring[2*i:], id)
	}
	h.Kick(0)
	for d.Stats().Requests < 1000 {
		h.WaitInterrupt(0)
	}
	h.Reset()
}
