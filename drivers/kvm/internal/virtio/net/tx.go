//go:build linux

package net

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// tx carries frames from one transmit queue to the back end.
type tx struct {
	virtio.Server
	d        *Device
	p        *pair
	features uint64

	hdr [hdrLen]byte
	vec [][]byte // what is written: the header if the back end wants it, the frame's parts

	err     error                 // of the last write
	write   func(fd uintptr) bool // made once, so that sending does not allocate
	outside bool                  // waiting for the back end
}

func newTx(d *Device, p *pair, q *virtio.Queue, features uint64) *tx {
	w := &tx{d: d, p: p, features: features, vec: make([][]byte, 0, 32)}
	w.Server = virtio.Server{Queue: q, Batch: batch, Do: w.send}
	w.write = w.tryWrite
	return w
}

// send judges and sends the frame in c. An error ends the worker; what happens to a frame is only counted.
func (w *tx) send(c *virtq.Chain, bad *virtq.ChainError) (uint32, error) {
	total := c.ReadableLen()
	if bad != nil || total < hdrLen+ethLen {
		w.p.txErrors.Add(1)
		return 0, nil
	}
	w.split(c.Readable)
	n := total - hdrLen
	if checkTx(&w.hdr, n, w.features) != nil {
		w.p.txErrors.Add(1)
		return 0, nil
	}
	if w.d.lost.Load() {
		w.p.txDrops.Add(1)
		return 0, nil
	}
	if w.d.c.Backend.VNetHdr {
		cleanTx(&w.hdr)
	}
	err := w.p.conn.Write(w.write)
	if err == nil {
		err = w.err
	}
	if in := w.enter(); in != nil {
		return 0, in
	}
	switch {
	case err == nil:
		w.p.txPackets.Add(1)
		w.p.txBytes.Add(n)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if w.d.stopping.Load() {
			return 0, virtio.ErrStopped
		}
		w.p.txDrops.Add(1) // lost meanwhile
	case dropped(err):
		w.p.txDrops.Add(1)
	default:
		w.p.txDrops.Add(1)
		w.d.Lose(err)
	}
	return 0, nil
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
	if w.err = w.enter(); w.err != nil {
		return true
	}
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
			w.Queue.Flush() // what is done need not wait for the back end
			w.Queue.Leave()
			w.outside = true
			return false
		}
		return true
	}
}

// enter ends a wait for the back end, if there was one.
func (w *tx) enter() error {
	if !w.outside {
		return nil
	}
	w.outside = false
	return w.Queue.Enter()
}
