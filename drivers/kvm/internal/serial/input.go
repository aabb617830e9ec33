package serial

import "context"

// depth is how many bytes the receiver holds: the FIFO, or one register
// without it.
func (p *Port) depth() int {
	if p.regs.fifoOn {
		return FIFOSize
	}
	return 1
}

// push appends to the FIFO, which has room.
func (p *Port) push(v byte) {
	p.fifo[(p.fifoHead+p.fifoLen)%FIFOSize] = v
	p.fifoLen++
}

// pop takes the oldest byte for the guest; an empty receiver reads as 0.
func (p *Port) pop() byte {
	if p.fifoLen == 0 {
		return 0
	}
	v := p.fifo[p.fifoHead]
	p.fifoHead = (p.fifoHead + 1) % FIFOSize
	p.fifoLen--
	return v
}

// listening tells whether the guest takes input now; the comment of Port has
// the rule.
func (r *registers) listening() bool {
	switch {
	case r.mcr&mcrLoop != 0:
		return false // the receiver is disconnected from the line
	case r.mcr&mcrRTS != 0 || r.polling:
		return true
	}
	return r.ier&ierRX != 0 && !r.rtsSeen
}

// receive moves bytes from the backlog to the FIFO and wakes feeders once half
// of the backlog is free.
func (p *Port) receive() {
	if p.backLen == 0 || !p.regs.listening() {
		return
	}
	for depth := p.depth(); p.backLen > 0 && p.fifoLen < depth; p.backLen-- {
		p.push(p.back[p.backHead])
		p.backHead = (p.backHead + 1) % Backlog
	}
	if p.room != nil && p.backLen <= Backlog/2 {
		close(p.room)
		p.room = nil
	}
}

// enqueue copies what fits into the backlog.
func (p *Port) enqueue(data []byte) int {
	n := min(len(data), Backlog-p.backLen)
	tail := (p.backHead + p.backLen) % Backlog
	if c := copy(p.back[tail:], data[:n]); c < n {
		copy(p.back[:], data[c:n])
	}
	p.backLen += n
	p.update()
	return n
}

// Input offers bytes to the guest and returns how many were taken: all that
// fit into the backlog, none on a closed port. It does not block; Feed does.
func (p *Port) Input(data []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0
	}
	return p.enqueue(data)
}

// Feed gives all of data to the guest and waits for room as long as that
// takes: until ctx ends (its error) or the port is closed (ErrClosed). n is
// how many bytes were taken, also with an error. Bytes of concurrent calls may
// interleave.
func (p *Port) Feed(ctx context.Context, data []byte) (n int, err error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return n, ErrClosed
		}
		n += p.enqueue(data[n:])
		if n == len(data) {
			p.mu.Unlock()
			return n, nil
		}
		if p.room == nil {
			p.room = make(chan struct{})
		}
		room := p.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
}

// Close ends all calls of Feed, present and future. The guest's side goes on
// working, so that vCPUs may still be running; the interrupt line is not
// touched.
func (p *Port) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}
