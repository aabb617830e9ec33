//go:build linux

package net

import (
	"encoding/binary"

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
	virtio.Server
	d        *Device
	features uint64
}

func newCtrl(d *Device, q *virtio.Queue, features uint64) *ctrl {
	w := &ctrl{d: d, features: features}
	w.Server = virtio.Server{Queue: q, Batch: ctrlBatch, Do: w.answer}
	return w
}

// answer carries out a command and writes its one byte of acknowledgement, the first that the guest gave.
func (w *ctrl) answer(c *virtq.Chain, bad *virtq.ChainError) (uint32, error) {
	if bad != nil {
		w.d.ctrlErrors.Add(1)
		return 0, nil
	}
	ack := byte(ctrlErr)
	if n := c.ReadableLen(); n >= ctrlCommandBytes && n <= ctrlMaxBytes && w.command(c.Readable, int(n)) {
		ack = ctrlOK
	} else {
		w.d.ctrlErrors.Add(1)
	}
	for _, seg := range c.Writable {
		seg[0] = ack
		return 1, nil
	}
	return 0, nil
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
