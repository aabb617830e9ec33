package console

import (
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// transmitter moves the guest's bytes to the output.
type transmitter struct {
	virtio.Server
	d   *Device
	buf []byte
}

func newTransmitter(d *Device, q *virtio.Queue) *transmitter {
	w := &transmitter{d: d, buf: make([]byte, piece)}
	w.Server = virtio.Server{Queue: q, Batch: batch, Do: w.write}
	return w
}

// write writes what the chain holds, copied first, so that the output sees bytes that stay the same.
func (w *transmitter) write(c *virtq.Chain, bad *virtq.ChainError) (uint32, error) {
	if bad != nil || len(c.Readable) == 0 {
		w.d.errors.Add(1)
		return 0, nil
	}
	for _, seg := range c.Readable {
		for len(seg) > 0 {
			if w.d.stopping.Load() {
				return 0, virtio.ErrStopped
			}
			n := copy(w.buf, seg)
			w.d.write(w.buf[:n])
			seg = seg[n:]
		}
	}
	return 0, nil
}
