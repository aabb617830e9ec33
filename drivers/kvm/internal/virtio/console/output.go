package console

import (
	"runtime"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// transmitter moves the guest's bytes to the output.
type transmitter struct {
	d       *Device
	q       *virtio.Queue
	chain   virtq.Chain
	buf     []byte
	pending bool // pushed since the last Signal
}

// serve goes on until the device stops (virtio.ErrStopped) or fails.
func (w *transmitter) serve() error {
	for {
		w.q.DisableKicks()
		drained, err := w.drain()
		if err != nil {
			return err
		}
		if w.pending {
			w.pending = false
			w.q.Signal()
		}
		if !drained {
			runtime.Gosched()
			continue
		}
		if w.q.EnableKicks() {
			continue
		}
		if err := w.q.Wait(); err != nil {
			return err
		}
	}
}

// drain writes at most a batch of buffers and tells whether there are no more.
func (w *transmitter) drain() (bool, error) {
	for range batch {
		if w.d.stopping.Load() {
			return false, virtio.ErrStopped
		}
		ok, err := w.q.Pop(&w.chain)
		switch {
		case err == nil && !ok:
			return true, nil
		case err == nil:
			if err := w.write(); err != nil {
				return false, err
			}
		case ringFault(err):
			return false, err
		default:
			w.d.errors.Add(1)
		}
		w.q.Push(&w.chain, 0)
		w.pending = true
	}
	return false, nil
}

// write writes what the chain holds, copied first, so that the output sees bytes that stay the same.
func (w *transmitter) write() error {
	if len(w.chain.Readable) == 0 {
		w.d.errors.Add(1)
	}
	for _, seg := range w.chain.Readable {
		for len(seg) > 0 {
			if w.d.stopping.Load() {
				return virtio.ErrStopped
			}
			n := copy(w.buf, seg)
			w.d.write(w.buf[:n])
			seg = seg[n:]
		}
	}
	return nil
}
