//go:build linux

package vsock

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
)

// maxPacket is the most data in one packet, as large as the driver of Linux sends.
const maxPacket = 64 << 10

// receive goes on with what waits for the guest's buffers.
func (d *Device) receive(q *virtio.Queue) error {
	for {
		if err := q.Wait(); err != nil {
			return err
		}
		d.mu.Lock()
		if d.starving {
			d.starving = false
			q.DisableKicks()
		}
		err := d.flush()
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// flush gives the guest what there is for it, at most a batch; the worker of the queue does the rest.
func (d *Device) flush() error {
	given, turns := 0, 0
	for ; turns < batch && !d.stopping.Load() && (d.resets.n > 0 || d.ready.first != nil); turns++ {
		ok, err := d.buffer()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		n := 0
		if d.resets.n > 0 {
			a := d.resets.pop()
			n = d.put(&header{srcPort: a.host, dstPort: a.guest, op: opReset}, 0)
		} else if s := d.ready.pop(); s.phase != ended {
			n = d.fill(s)
			d.wake(s)
		}
		if n > 0 {
			d.rx.Push(&d.out, uint32(n))
			d.have = false
			given++
		}
	}
	if given > 0 {
		d.rx.Signal()
	}
	if turns == batch {
		d.rx.Wake()
	}
	if d.blocked && !d.resets.full() {
		d.blocked = false
		d.tx.Wake()
	}
	return nil
}

// buffer sees to it that d.out is a buffer that a packet with data fits into.
func (d *Device) buffer() (bool, error) {
	if d.have || d.starving {
		return d.have, nil
	}
	for range batch {
		ok, err := d.rx.Pop(&d.out)
		switch {
		case err != nil && virtio.IsBadChain(err) == nil:
			return false, fmt.Errorf("vsock: %w", err)
		case err == nil && ok && d.out.WritableLen() > headerLen:
			d.have = true
			return true, nil
		case err == nil && !ok:
			if d.rx.EnableKicks() {
				d.rx.DisableKicks()
				continue
			}
			d.starving = true
			return false, nil
		}
		d.faults.Add(1)
		d.rx.Push(&d.out, 0)
	}
	d.rx.Wake() // a guest that makes nothing but mistakes has no more than its turn
	return false, nil
}

// put writes a packet's header in front of n bytes of data, and gives the length of both.
func (d *Device) put(h *header, n int) int {
	h.srcCID, h.dstCID, h.kind, h.length = hostCID, d.cfg.CID, streamType, uint32(n)
	h.encode(&d.head)
	b := d.head[:]
	for _, p := range d.out.Writable {
		b = b[copy(p, b):]
		if len(b) == 0 {
			break
		}
	}
	return headerLen + n
}

// fill makes the next packet of a stream in d.out and gives its length, 0 if there is none.
func (d *Device) fill(s *stream) int {
	h := header{srcPort: s.addr.host, dstPort: s.addr.guest, alloc: bufferSize, forwarded: s.delivered}
	n := 0
	switch {
	case s.todo&tellReset != 0:
		h.op = opReset
		d.drop(s)
		return d.put(&h, 0)
	case s.todo&tellRequest != 0:
		h.op, s.todo = opRequest, s.todo&^tellRequest
	case s.todo&tellResponse != 0:
		h.op, s.todo = opResponse, s.todo&^tellResponse
	default:
		if s.hasData() && s.credit() > 0 {
			if n = d.read(s); s.phase == ended {
				return 0
			}
		}
		switch {
		case n > 0:
			h.op = opData
		case s.todo&tellShutdown != 0:
			h.op, h.flags, s.todo = opShutdown, s.shut, s.todo&^tellShutdown
			if s.shut == shutBoth {
				s.closeSocket()
				s.phase, s.pending = closing, buffer{}
			}
		case s.todo&askCredit != 0:
			h.op, s.todo = opCreditRequest, s.todo&^askCredit
		case s.todo&tellCredit != 0:
			h.op = opCreditUpdate
		default:
			return 0
		}
	}
	s.told, s.todo = s.delivered, s.todo&^tellCredit // every packet tells
	return d.put(&h, n)
}

// read fills d.out behind the header with what the host program sends.
func (d *Device) read(s *stream) int {
	room := min(d.out.WritableLen()-headerLen, uint64(s.credit()), maxPacket)
	d.vector = limit(cut(d.vector[:0], d.out.Writable, d.head[:]), room)
	for {
		n, err := guestmem.Preadv(s.fd, d.vector, -1, 0) // no offset: as readv
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.readable = false
			return 0
		case err != nil || n == 0 && room > 0:
			if err != nil {
				d.hangUp(s)
			}
			s.eof = true
			if s.hungUp {
				d.shutdown(s, shutBoth)
			} else {
				d.shutdown(s, shutSend)
			}
			return 0
		}
		s.sent += uint32(n)
		d.toGuest.Add(uint64(n))
		if s.credit() == 0 && !s.asked {
			s.asked = true
			s.todo |= askCredit
		}
		return n
	}
}

// shutdown tells the guest that the host program will not send, or not receive, any more.
func (d *Device) shutdown(s *stream, flags uint32) {
	if flags&^s.shut != 0 {
		s.shut |= flags
		s.todo |= tellShutdown
	}
}

// hangUp notes that the host program does not receive any more. What it sent is still read.
func (d *Device) hangUp(s *stream) {
	if s.hungUp {
		return
	}
	s.hungUp, s.readable = true, true
	d.forwarded(s, s.pending.len())
	s.pending = buffer{}
	if s.phase == open && (s.eof || s.guestShut&shutReceive != 0) {
		d.shutdown(s, shutBoth)
	}
	d.finish(s)
}
