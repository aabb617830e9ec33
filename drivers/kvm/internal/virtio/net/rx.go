//go:build linux

package net

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// maxMerge bounds the buffers that one frame is spread over. Drivers give buffers of 1.5 KiB and more, of which the
// largest frame takes 44.
const maxMerge = 128

// errNoFit says that no buffers of the guest will ever hold the frame.
var errNoFit = errors.New("frame does not fit into the guest's buffers")

// rx carries frames from the back end to one receive queue.
type rx struct {
	d     *Device
	p     *pair
	index int
	q     *virtio.Queue
	wait  func() error // for buffers: q.Wait
	merge bool

	held    []virtq.Chain // buffers of the guest: the first n are taken from the queue and not yet given back
	n       int
	room    uint64 // bytes in them
	lens    []uint32
	pending int // pushed since the last Signal

	buf  []byte // header and frame
	from int    // where reading into buf begins: behind the header if the back end sends none

	got     int
	err     error
	read    func(fd uintptr) bool // made once, so that receiving does not allocate
	outside bool                  // waiting for the back end
}

func newRx(d *Device, p *pair, index int, q *virtio.Queue, features uint64) *rx {
	w := &rx{d: d, p: p, index: index, q: q, wait: q.Wait, merge: features&MrgRxbuf != 0, buf: make([]byte, hdrLen+maxFrame+1)}
	if !d.c.Backend.VNetHdr {
		w.from = hdrLen
	}
	n := 1
	if w.merge {
		n = maxMerge
	}
	w.held, w.lens = make([]virtq.Chain, n), make([]uint32, n)
	w.read = w.tryRead
	return w
}

// serve goes on until the device stops (virtio.ErrStopped), fails, or has lost its back end (errLost).
func (w *rx) serve() error {
	w.q.DisableKicks()
	for i := 1; ; i++ {
		// Without a buffer of the guest the back end is not read.
		if err := w.hold(1); err != nil {
			return err
		}
		size, err := w.receive()
		if err != nil {
			return err
		}
		if err := w.deliver(size); err != nil {
			return err
		}
		if w.pending >= batch {
			w.flush()
		}
		if i%batch == 0 {
			w.flush()
			if err := w.q.Yield(); err != nil {
				return err
			}
			runtime.Gosched()
		}
	}
}

// flush tells the guest of what was pushed.
func (w *rx) flush() {
	if w.pending > 0 {
		w.pending = 0
		w.q.Signal()
	}
}

// stopped tells why to end, if so.
func (w *rx) stopped() error {
	if w.d.stopping.Load() {
		return virtio.ErrStopped
	}
	if w.d.lost.Load() {
		return errLost
	}
	return nil
}

// hold takes buffers from the guest until there is room for size bytes, and waits for them if need be. errNoFit if that
// cannot be.
func (w *rx) hold(size uint64) error {
	for w.room < size {
		if err := w.stopped(); err != nil {
			return err
		}
		if w.n == len(w.held) || (w.n > 0 && w.q.InFlight() >= w.q.Size()) {
			return errNoFit
		}
		c := &w.held[w.n]
		ok, err := w.q.Pop(c)
		switch {
		case err != nil && virtio.IsBadChain(err) == nil:
			return err
		case err != nil || ok && (c.WritableLen() == 0 || w.n == 0 && c.WritableLen() < hdrLen):
			// The header goes whole into the first buffer (virtio 1.2 section 5.1.6.3.1 has it no smaller).
			w.p.rxErrors.Add(1)
			w.q.Push(c, 0)
			if w.pending++; w.pending >= batch {
				w.flush()
				runtime.Gosched()
			}
		case ok:
			w.n++
			w.room += c.WritableLen()
		default:
			if err := w.await(); err != nil {
				return err
			}
		}
	}
	return nil
}

// await waits until the driver adds buffers.
func (w *rx) await() error {
	w.flush()
	if !w.q.EnableKicks() {
		if err := w.wait(); err != nil {
			return err
		}
	}
	w.q.DisableKicks()
	return nil
}

// receive waits for a frame, puts it into buf and gives its size without the header.
func (w *rx) receive() (int, error) {
	for {
		if err := w.stopped(); err != nil {
			return 0, err
		}
		err := w.p.conn.Read(w.read)
		if err == nil {
			err = w.err
		}
		if w.outside {
			w.outside = false
			if err := w.q.Enter(); err != nil {
				return 0, err
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			w.d.Lose(err)
			return 0, errLost
		case w.got == 0 && w.p.ends:
			w.d.Lose(errors.New("closed by the other end"))
			return 0, errLost
		}
		size := w.from + w.got - hdrLen
		if w.from > 0 {
			clear(w.buf[:hdrLen])
		}
		if size > maxFrame || size < ethLen || checkRx((*[hdrLen]byte)(w.buf), size, w.d.offloads.Load(), w.d.c.MTU) != nil {
			w.p.rxDrops.Add(1)
			continue
		}
		return size, nil
	}
}

// tryRead is called by the poller until it returns true.
func (w *rx) tryRead(fd uintptr) bool {
	for {
		w.got, w.err = unix.Read(int(fd), w.buf[w.from:])
		switch w.err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			if !w.outside {
				w.flush() // before the wait, so that the guest sees what came
				w.q.Leave()
				w.outside = true
			}
			return false
		}
		return true
	}
}

// deliver gives the frame in buf, of size bytes and with a header, to the guest, or drops it.
func (w *rx) deliver(size int) error {
	if w.index >= int(w.d.active.Load()) {
		w.p.rxDrops.Add(1) // virtio 1.2 section 5.1.6.5.6.1: not on a queue that the driver has given up
		return nil
	}
	total := uint64(hdrLen + size)
	switch err := w.hold(total); {
	case errors.Is(err, errNoFit):
		w.p.rxDrops.Add(1)
		return nil
	case err != nil:
		return err
	}
	used := w.scatter(w.buf[:total])
	w.q.PushAll(w.held[:used], w.lens[:used])
	w.pending += used
	// Buffers that were not needed are the first ones of the next frame.
	for i := used; i < w.n; i++ {
		w.held[i-used], w.held[i] = w.held[i], w.held[i-used]
	}
	w.n -= used
	w.p.rxPackets.Add(1)
	w.p.rxBytes.Add(uint64(size))
	return nil
}

// scatter copies the header and the frame into the held buffers, which have room, and gives the number of buffers used.
// All is written, the number of buffers in the header too, before any is given back.
func (w *rx) scatter(data []byte) int {
	used, room := 0, uint64(0)
	for room < uint64(len(data)) {
		n := w.held[used].WritableLen()
		w.lens[used] = uint32(min(n, uint64(len(data))-room))
		room += n
		used++
	}
	w.room -= room
	binary.LittleEndian.PutUint16(data[hdrNumBuffers:], uint16(used))
	for i := range used {
		for _, seg := range w.held[i].Writable {
			data = data[copy(seg, data):]
		}
	}
	return used
}
