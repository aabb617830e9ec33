//go:build linux

package net

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// tx carries frames from one transmit queue to the back end.
type tx struct {
	d        *Device
	p        *pair
	q        *virtio.Queue
	features uint64

	chain   virtq.Chain
	pending int // pushed since the last Signal

	hdr [hdrLen]byte
	vec [][]byte // what is written: the header if the back end wants it, the frame's parts

	err   error                 // of the last write
	write func(fd uintptr) bool // made once, so that sending does not allocate
}

func newTx(d *Device, p *pair, q *virtio.Queue, features uint64) *tx {
	w := &tx{d: d, p: p, q: q, features: features, vec: make([][]byte, 0, 32)}
	w.write = w.tryWrite
	return w
}

// serve goes on until the device stops (virtio.ErrStopped) or fails.
func (w *tx) serve() error {
	for {
		w.q.DisableKicks()
		drained, err := w.drain()
		if err != nil {
			return err
		}
		w.flush()
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

// flush tells the guest of what was pushed.
func (w *tx) flush() {
	if w.pending > 0 {
		w.pending = 0
		w.q.Signal()
	}
}

// drain sends at most a batch of frames and tells whether there are no more.
func (w *tx) drain() (bool, error) {
	for range batch {
		if w.d.stopping.Load() {
			return false, virtio.ErrStopped
		}
		ok, err := w.q.Pop(&w.chain)
		switch {
		case err == nil && !ok:
			return true, nil
		case err == nil:
			err = w.send(&w.chain)
		case ringFault(err):
			return false, err
		default:
			w.p.txErrors.Add(1)
			err = nil
		}
		if err != nil {
			return false, err
		}
		w.q.Push(&w.chain, 0)
		w.pending++
	}
	return false, nil
}

// send judges and sends the frame in c. An error ends the worker; what happens to a frame is only counted.
func (w *tx) send(c *virtq.Chain) error {
	total := c.ReadableLen()
	if total < hdrLen+ethLen {
		w.p.txErrors.Add(1)
		return nil
	}
	w.split(c.Readable)
	n := total - hdrLen
	if checkTx(&w.hdr, n, w.features) != nil {
		w.p.txErrors.Add(1)
		return nil
	}
	if w.d.lost.Load() {
		w.p.txDrops.Add(1)
		return nil
	}
	if w.d.c.Backend.VNetHdr {
		cleanTx(&w.hdr)
	}
	err := w.p.conn.Write(w.write)
	if err == nil {
		err = w.err
	}
	switch {
	case err == nil:
		w.p.txPackets.Add(1)
		w.p.txBytes.Add(n)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if w.d.stopping.Load() {
			return virtio.ErrStopped
		}
		w.p.txDrops.Add(1) // lost meanwhile
	case dropped(err):
		w.p.txDrops.Add(1)
	default:
		w.p.txDrops.Add(1)
		w.d.Lose(err)
	}
	return nil
}

// split copies the header out of the guest's memory and lists the parts of the frame in w.vec, with the header in front
// if the back end wants one. There are at least hdrLen bytes.
func (w *tx) split(parts [][]byte) {
	w.vec = w.vec[:0]
	if w.d.c.Backend.VNetHdr {
		w.vec = append(w.vec, w.hdr[:])
	}
	have := 0
	for _, p := range parts {
		if have < hdrLen {
			n := copy(w.hdr[have:], p)
			have += n
			p = p[n:]
		}
		if len(p) > 0 {
			w.vec = append(w.vec, p)
		}
	}
}

// tryWrite is called by the poller until it returns true.
func (w *tx) tryWrite(fd uintptr) bool {
	for {
		w.err = nil
		if len(w.vec) == 1 {
			_, w.err = unix.Write(int(fd), w.vec[0])
		} else {
			_, w.err = guestmem.Pwritev(int(fd), w.vec, -1, 0) // no offset: as writev
		}
		switch w.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			w.flush() // what is done need not wait for the back end
			return false
		}
		return true
	}
}
