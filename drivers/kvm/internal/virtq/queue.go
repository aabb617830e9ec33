package virtq

// Pop takes the next request and says whether there was one. A *[ChainError] is a request that is wrong: it is taken, and
// the queue can go on. Any other error is a *[RingError]: the queue cannot. A Chain that was popped must be pushed before it
// is used again.
func (q *Queue) Pop(c *Chain) (bool, error) {
	c.reset()
	if q.packed != nil {
		return q.packed.pop(c)
	}
	s := &q.split
	at := s.nextAvail
	if at == s.seen {
		// As many as the index tells of may be taken without another look at it.
		seen := s.availIndex.Load()
		if seen == at {
			return false, nil
		}
		if seen-at > s.mask+1-s.inFlight() {
			return false, errTooMany
		}
		s.seen = seen
	}
	head := s.avail[at&s.mask]
	if int(head) >= len(s.desc) {
		return false, errHead
	}
	s.nextAvail = at + 1
	c.id, c.popped = head, true
	d := s.desc[head] // read once
	// A request of one buffer, in the region of the last one, is done with here.
	off, n := d.addr-s.base, uint64(d.len)
	if d.flags&^flagWrite != 0 || n == 0 || off >= uint64(len(s.ram)) || n > uint64(len(s.ram))-off {
		err := s.walk(c, d)
		return err == nil, err
	}
	b := s.ram[off : off+n : off+n]
	switch {
	case d.flags == 0:
		c.Readable, c.readable = append(c.Readable, b), n
	case cap(c.Writable) > 0: // append, but for the slice itself
		c.Writable = c.Writable[:1]
		c.Writable[0], c.writable = b, n
	default:
		c.Writable, c.writable = append(c.Writable, b), n
	}
	return true, nil
}

// Push gives a request back. written is how many bytes of Writable the device wrote, from the beginning; it is cut to what
// there is. A Chain that was not popped, or pushed already, is ignored.
func (q *Queue) Push(c *Chain, written uint32) {
	if !c.popped {
		return
	}
	c.popped = false
	written = min(written, uint32(c.writable))
	if q.packed != nil {
		q.packed.push(c, written)
		return
	}
	q.split.use(c, written)
	q.split.publish()
}

// PushAll gives requests back as Push does, c[i] with written[i], in such a way that a driver that sees the first of them
// sees them all. Frames that are spread over several buffers need that.
func (q *Queue) PushAll(c []Chain, written []uint32) {
	some := false
	for i := range c {
		if !c[i].popped {
			continue
		}
		c[i].popped, some = false, true
		n := min(written[i], uint32(c[i].writable))
		if q.packed != nil {
			q.packed.use(&c[i], n)
		} else {
			q.split.use(&c[i], n)
		}
	}
	switch {
	case !some:
	case q.packed != nil:
		q.packed.publish()
	default:
		q.split.publish()
	}
}

// InFlight is how many requests were taken and not given back.
func (q *Queue) InFlight() int {
	if q.packed != nil {
		return int(q.packed.inFlight)
	}
	return int(q.split.inFlight())
}

// ShouldInterrupt says whether the driver wants to be told of what was pushed since it was asked last.
func (q *Queue) ShouldInterrupt() bool {
	if q.packed != nil {
		return q.packed.shouldInterrupt()
	}
	return q.split.shouldInterrupt()
}

// DisableKicks tells the driver that it need not kick, which it may do all the same.
func (q *Queue) DisableKicks() {
	if q.packed != nil {
		q.packed.disableKicks()
	} else {
		q.split.disableKicks()
	}
}

// EnableKicks asks the driver to kick when there is a request. It says whether there is one already, for which no kick need
// come.
func (q *Queue) EnableKicks() bool {
	if q.packed != nil {
		return q.packed.enableKicks()
	}
	return q.split.enableKicks()
}
