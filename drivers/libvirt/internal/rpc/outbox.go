package rpc

import (
	"net"
	"runtime"
	"sync"
	"syscall"
)

const (
	// queueBound is how many bytes may wait for the socket before callers
	// have to wait, too.
	queueBound = 256 << 10

	// inlineRounds is how often a caller writes what others have queued
	// meanwhile before it leaves the rest to the writing goroutine.
	inlineRounds = 4
)

// outbox sends frames. Whoever finds nobody writing writes, and what others
// queue meanwhile goes out in one system call after that. A caller never waits
// for the socket: on one that has a descriptor it writes what fits, and leaves
// the rest to the writing goroutine; on others (TLS, a channel of ssh) all is
// left to that goroutine.
type outbox struct {
	c    *Client
	conn net.Conn
	try  *tryWriter // nil: conn has no descriptor

	mu    sync.Mutex
	queue []byte        // whole frames
	spare []byte        // for the next queue
	busy  bool          // somebody writes: a caller, or the goroutine
	pong  bool          // an answer to a ping is in queue
	room  chan struct{} // closed when the queue is taken, for those who wait

	rest []byte        // what the goroutine is to write first; its own once woken
	wake chan struct{} // hands busy over to the goroutine
}

func (o *outbox) init(c *Client) {
	o.c, o.conn = c, c.conn
	o.wake = make(chan struct{}, 1)
	if sc, ok := c.conn.(syscall.Conn); ok {
		o.try = newTryWriter(sc)
	}
}

// stopper is what ends a wait, such as a context. It is not asked for its channel
// before there is something to wait for: a context may have to make it.
type stopper interface{ Done() <-chan struct{} }

// stop is a stopper that has its channel.
type stop chan struct{}

func (s stop) Done() <-chan struct{} { return s }

// send queues a frame and sees to its being written. False: end or the
// connection ended before there was room in the queue, and nothing was queued.
func (o *outbox) send(end stopper, h Header, payload []byte) bool {
	o.mu.Lock()
	for len(o.queue) > 0 && len(o.queue)+len(payload) > queueBound {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-end.Done():
			return false
		case <-o.c.done:
			return false
		}
		o.mu.Lock()
	}
	o.queue = appendHeader(o.queue, h, len(payload))
	o.queue = append(o.queue, payload...)
	if o.busy {
		o.mu.Unlock()
		return true
	}
	o.busy = true
	o.mu.Unlock()
	if o.try == nil {
		o.wake <- struct{}{}
		return true
	}
	if o.c.others() {
		// Replies wake many callers at once: let them queue their next calls
		// first, so that one system call takes all.
		runtime.Gosched()
	}
	o.flush()
	return true
}

// control queues a small frame whatever the queue's length. It never waits.
// Callers see to it that there is a bound on how many they send.
func (o *outbox) control(h Header, payload []byte) {
	o.mu.Lock()
	o.controlLocked(h, payload)
}

// sendPong answers a ping. However many come, one answer at most is queued.
func (o *outbox) sendPong() {
	o.mu.Lock()
	if o.pong {
		o.mu.Unlock()
		return
	}
	o.pong = true
	o.controlLocked(Header{Program: ProgramKeepAlive, Version: version, Procedure: keepAlivePong, Type: TypeMessage}, nil)
}

func (o *outbox) controlLocked(h Header, payload []byte) {
	o.queue = AppendFrame(o.queue, h, payload)
	wake := !o.busy
	o.busy = true
	o.mu.Unlock()
	if wake {
		o.wake <- struct{}{}
	}
}

// take gives the queue to the one who is writing; nil ends the writing. done is
// the batch that was written, for reuse.
func (o *outbox) take(done []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if cap(done) > 0 && cap(done) <= keepBuffer {
		o.spare = done[:0]
	}
	if len(o.queue) == 0 {
		o.busy = false
		return nil
	}
	batch := o.queue
	o.queue, o.spare = o.spare, nil
	o.pong = false
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	return batch
}

// flush writes what is queued as far as that goes without waiting. The caller
// has set busy.
func (o *outbox) flush() {
	var batch []byte
	for range inlineRounds {
		if batch = o.take(batch); batch == nil {
			return
		}
		n, err := o.try.write(batch)
		if err != nil {
			o.c.fail(err)
			return
		}
		if n < len(batch) {
			o.rest = batch[n:]
			break
		}
	}
	o.wake <- struct{}{}
}

// run is the writing goroutine.
func (o *outbox) run() {
	for {
		select {
		case <-o.wake:
		case <-o.c.done:
			return
		}
		batch := o.rest
		o.rest = nil
		for {
			if len(batch) > 0 {
				if _, err := o.conn.Write(batch); err != nil {
					o.c.fail(err)
					return
				}
			}
			if batch = o.take(batch); batch == nil {
				break
			}
		}
	}
}
