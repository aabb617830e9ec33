//go:build linux

package vsock

import (
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/guestmem"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
)

// transmit takes the guest's packets.
func (d *Device) transmit(q *virtio.Queue) error {
	for !d.stopping.Load() {
		d.mu.Lock()
		q.DisableKicks()
		more, err := d.drain(q)
		if err == nil && !more && !d.blocked {
			more = q.EnableKicks()
		}
		if err == nil {
			err = d.flush()
		}
		d.mu.Unlock()
		switch {
		case err != nil:
			return err
		case !more:
			err = q.Wait()
		default:
			err = q.Yield()
			runtime.Gosched()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drain handles at most a batch of packets and says whether there may be more to handle now.
func (d *Device) drain(q *virtio.Queue) (bool, error) {
	defer q.Signal()
	for range batch {
		// Each packet may be answered by a refusal.
		if d.blocked = d.resets.full(); d.blocked {
			return false, nil
		}
		ok, err := q.Pop(&d.in)
		switch {
		case err == nil && !ok:
			return false, nil
		case err == nil:
			d.handle(&d.in)
		case virtio.IsBadChain(err) == nil:
			return false, err
		default:
			d.faults.Add(1)
		}
		q.Push(&d.in, 0)
	}
	return true, nil
}

// handle is what one packet of the guest does.
func (d *Device) handle(c *virtq.Chain) {
	if c.ReadableLen() < headerLen {
		d.faults.Add(1)
		return
	}
	room := c.ReadableLen() - headerLen
	d.vector = cut(d.vector[:0], c.Readable, d.head[:])
	var h header
	h.decode(&d.head)
	if h.srcCID != d.cfg.CID || h.dstCID != hostCID {
		d.faults.Add(1)
		return
	}
	a := address{host: h.dstPort, guest: h.srcPort}
	s := d.streams.byAddress[a]
	if h.kind != streamType || uint64(h.length) > room {
		d.faults.Add(1)
		d.violated(s, a)
		return
	}
	if s == nil || s.phase == closing && h.op == opRequest {
		if s != nil {
			d.drop(s) // the guest has forgotten it
		}
		switch h.op {
		case opRequest:
			d.accept(a, &h)
		case opReset:
		default:
			d.refuse(a)
		}
		return
	}
	s.guestAlloc, s.guestFw, s.asked = h.alloc, h.forwarded, false
	switch {
	case h.op == opReset:
		d.forgotten(s)
	case h.op == opCreditUpdate:
	case h.op == opCreditRequest:
		s.todo |= tellCredit
	case s.phase == requested && h.op == opResponse:
		d.established(s)
	case s.phase == open && h.op == opData:
		d.deliver(s, h.length)
	case s.phase == closing && h.op == opData: // sent before it knew
	case s.phase != requested && h.op == opShutdown:
		s.guestShut |= h.flags & shutBoth
		d.guestShutdown(s)
	default:
		d.faults.Add(1)
		d.abort(s)
	}
	d.wake(s)
}

// cut copies the head of parts to head and appends the rest to rest.
func cut(rest, parts [][]byte, head []byte) [][]byte {
	for _, p := range parts {
		n := copy(head, p)
		head = head[n:]
		if n < len(p) {
			rest = append(rest, p[n:])
		}
	}
	return rest
}

// limit cuts parts to n bytes together.
func limit(parts [][]byte, n uint64) [][]byte {
	for i, p := range parts {
		if n <= uint64(len(p)) {
			parts[i] = p[:n]
			if n > 0 {
				i++
			}
			return parts[:i]
		}
		n -= uint64(len(p))
	}
	return parts
}

// violated answers a packet that is no packet.
func (d *Device) violated(s *stream, a address) {
	if s == nil {
		d.refuse(a)
		return
	}
	d.abort(s)
	d.wake(s)
}

// refuse tells the guest that there is no such stream. There is room in d.resets.
func (d *Device) refuse(a address) {
	d.refused.Add(1)
	d.resets.push(a)
}

// accept connects the guest to a program of the host.
func (d *Device) accept(a address, h *header) {
	if d.cfg.Connect == nil || d.streams.count() >= MaxConnections {
		d.refuse(a)
		return
	}
	fd, err := d.cfg.Connect(a.host)
	if err != nil {
		d.refuse(a)
		return
	}
	// The program may have written before the poller looks.
	s := &stream{phase: open, fd: fd, guestAlloc: h.alloc, guestFw: h.forwarded, todo: tellResponse, readable: true}
	d.streams.add(s)
	d.streams.name(s, a)
	d.open.Add(1)
	if err := d.poller.watch(s, false); err != nil {
		d.drop(s)
		d.refuse(a)
		return
	}
	d.accepted.Add(1)
	d.wake(s)
}

// established tells the host program that the guest has accepted.
func (d *Device) established(s *stream) {
	line := strconv.AppendUint(append(make([]byte, 0, 16), "OK "...), uint64(s.addr.host), 10)
	if n, err := unix.Write(s.fd, append(line, '\n')); err != nil || n != len(line)+1 {
		d.abort(s) // it is gone; an empty socket has room for a line
		return
	}
	s.phase, s.readable = open, true
	d.open.Add(1)
	d.dialed.Add(1)
}

// deliver gives the guest's data, d.vector, to the host program.
func (d *Device) deliver(s *stream, n uint32) {
	if s.guestShut&shutSend != 0 || int(n) > bufferSize-s.pending.len() {
		d.faults.Add(1)
		d.abort(s)
		return
	}
	d.fromGuest.Add(uint64(n))
	parts := limit(d.vector, uint64(n))
	if s.pending.len() == 0 && !s.hungUp && n > 0 {
		done := d.write(s, parts)
		d.forwarded(s, done)
		for n -= uint32(done); done > 0; {
			if k := len(parts[0]); k <= done {
				parts, done = parts[1:], done-k
			} else {
				parts[0], done = parts[0][done:], 0
			}
		}
	}
	switch {
	case n == 0:
	case s.hungUp:
		d.forwarded(s, int(n)) // nobody will read it
	default:
		for _, p := range parts {
			s.pending.add(p)
		}
		if err := d.poller.watch(s, true); err != nil {
			d.abort(s)
		}
	}
}

// write is one write to the socket, and how much it took.
func (d *Device) write(s *stream, parts [][]byte) int {
	for {
		n, err := guestmem.Pwritev(s.fd, parts, -1, 0) // no offset: as writev
		switch err {
		case nil:
			return n
		case unix.EINTR:
		case unix.EAGAIN:
			return 0
		default:
			d.hangUp(s)
			return 0
		}
	}
}

// forwarded notes that n bytes of the guest's have left the buffer.
func (d *Device) forwarded(s *stream, n int) {
	s.delivered += uint32(n)
	if s.delivered-s.told >= bufferSize/2 {
		s.todo |= tellCredit
	}
}

// guestShutdown is what follows from s.guestShut.
func (d *Device) guestShutdown(s *stream) {
	if s.phase == closing {
		if s.guestShut == shutBoth {
			s.todo = tellReset
		}
		return
	}
	if s.guestShut&shutReceive != 0 {
		_ = unix.Shutdown(s.fd, unix.SHUT_RD)
		if s.hungUp {
			d.shutdown(s, shutBoth)
		}
	}
	d.finish(s)
}

// finish does what waits until the host program has all data of the guest.
func (d *Device) finish(s *stream) {
	if s.phase != open || s.pending.len() > 0 {
		return
	}
	switch {
	case s.guestGone:
		d.drop(s)
	case s.guestShut == shutBoth:
		d.abort(s) // the guest waits for the reset
	case s.guestShut&shutSend != 0:
		_ = unix.Shutdown(s.fd, unix.SHUT_WR)
	}
}

// forgotten is the guest's reset.
func (d *Device) forgotten(s *stream) {
	if s.phase == requested {
		d.refused.Add(1)
	}
	if s.phase == open && s.guestShut == shutBoth && s.pending.len() > 0 {
		// It has waited long enough for a program that is slow to read, which is to have all the same what was sent.
		s.guestGone, s.todo = true, 0
		d.streams.unname(s)
		return
	}
	d.drop(s)
}

// abort closes the socket and resets the guest's side.
func (d *Device) abort(s *stream) {
	s.closeSocket()
	if s.phase == requested {
		d.open.Add(1) // as every stream that is closing
	}
	s.phase, s.todo, s.pending = closing, tellReset, buffer{}
}

// wake lets the stream have its turn if it has something for the guest.
func (d *Device) wake(s *stream) {
	if s.phase != ended && s.wants() {
		d.ready.push(s)
	}
}

// drop ends a stream.
func (d *Device) drop(s *stream) {
	switch s.phase {
	case ended:
		return
	case greeting:
		d.streams.greetings--
	case open, closing:
		d.open.Add(-1)
	}
	s.closeSocket()
	s.phase, s.todo, s.pending = ended, 0, buffer{}
	d.streams.remove(s)
	d.poller.resume()
}
