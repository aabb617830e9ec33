//go:build linux

package net

import (
	"encoding/binary"
	"runtime"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// Commands of the control queue, virtio 1.2 section 5.1.6.5.
const (
	ctrlMQ           = 4
	ctrlMQPairsSet   = 0
	ctrlOffloads     = 5
	ctrlOffloadsSet  = 0
	ctrlOK           = 0
	ctrlErr          = 1
	ctrlMaxBytes     = 2 + 8 // the longest command that there is, with its class and number
	ctrlBatch        = 8     // a command may talk to the kernel
	ctrlLenPairs     = 2
	ctrlLenOffloads  = 8
	ctrlCommandBytes = 2
)

// ctrl answers the control queue.
type ctrl struct {
	d        *Device
	q        *virtio.Queue
	features uint64
	chain    virtq.Chain
	pending  bool // pushed since the last Signal
}

// serve goes on until the device stops (virtio.ErrStopped) or fails.
func (w *ctrl) serve() error {
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

func (w *ctrl) drain() (bool, error) {
	for range ctrlBatch {
		if w.d.stopping.Load() {
			return false, virtio.ErrStopped
		}
		ok, err := w.q.Pop(&w.chain)
		switch {
		case err == nil && !ok:
			return true, nil
		case err == nil:
			w.q.Push(&w.chain, w.answer(&w.chain))
			w.pending = true
		case ringFault(err):
			return false, err
		default:
			w.d.ctrlErrors.Add(1)
			w.q.Push(&w.chain, 0)
			w.pending = true
		}
	}
	return false, nil
}

// answer carries out a command and writes its one byte of acknowledgement, the first that the guest gave.
func (w *ctrl) answer(c *virtq.Chain) uint32 {
	ack := byte(ctrlErr)
	if n := c.ReadableLen(); n >= ctrlCommandBytes && n <= ctrlMaxBytes && w.command(c.Readable, int(n)) {
		ack = ctrlOK
	} else {
		w.d.ctrlErrors.Add(1)
	}
	for _, seg := range c.Writable {
		seg[0] = ack
		return 1
	}
	return 0
}

// command tells whether the command was one and was carried out. Its n bytes are copied before they are judged.
func (w *ctrl) command(parts [][]byte, n int) bool {
	var b [ctrlMaxBytes]byte
	have := 0
	for _, p := range parts {
		have += copy(b[have:n], p)
	}
	arg := b[ctrlCommandBytes:n]
	switch {
	case w.features&MQ != 0 && b[0] == ctrlMQ && b[1] == ctrlMQPairsSet && len(arg) == ctrlLenPairs:
		n := int(binary.LittleEndian.Uint16(arg))
		return n >= 1 && n <= len(w.d.pairs) && w.d.setPairs(n) == nil
	case w.features&CtrlGuestOffloads != 0 && b[0] == ctrlOffloads && b[1] == ctrlOffloadsSet && len(arg) == ctrlLenOffloads:
		f := binary.LittleEndian.Uint64(arg)
		if f&^(w.features&guestOffloads) != 0 {
			return false
		}
		return w.d.setOffloads(effective(f)) == nil
	}
	return false
}
