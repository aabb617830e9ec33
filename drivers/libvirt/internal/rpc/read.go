package rpc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBuffer = 64 << 10 // most frames are far smaller
	firstStep  = 64 << 10 // of the memory for a larger one

	// lendAfter is how many replies have to come one at a time, with no other
	// call under way, before callers read their replies themselves.
	lendAfter = 4

	// lendTick is how long the connection may be in callers' hands without a
	// new call. It delays events and pings then, and the return of a call
	// whose context ends.
	lendTick = 2 * time.Millisecond
)

var (
	errInterrupted = errors.New("reading was interrupted")

	longAgo = time.Unix(1, 0)
)

// inbox reads. There is a goroutine for that, which must be there for events,
// pings and the end of the connection. But where one caller makes one call
// after the other, handing each reply over from it costs more than all the rest
// of a call; so the goroutine lends the connection to callers then, who read
// until they have their replies, and takes it back when there are several, or
// none for a while, or one whose call takes long: such a caller cannot see that
// its context has ended while it reads.
type inbox struct {
	c       *Client
	canLend bool
	lent    atomic.Bool   // nobody reads but who makes a call
	recall  chan struct{} // asks for the connection to be taken back
	tick    *time.Ticker

	mu     sync.Mutex // held by who reads
	buf    []byte
	have   int    // bytes in buf
	large  []byte // begun frame that does not fit buf
	size   int    // of it, when whole
	single int    // replies that came one at a time
}

func (in *inbox) init(c *Client, canLend bool) {
	in.c, in.canLend = c, canLend
	in.recall = make(chan struct{}, 1)
	in.buf = make([]byte, readBuffer)
}

// run is the reading goroutine.
func (in *inbox) run() {
	in.tick = time.NewTicker(lendTick)
	in.tick.Stop()
	for {
		if !in.mu.TryLock() {
			in.c.conn.SetReadDeadline(longAgo)
			in.mu.Lock()
			in.c.conn.SetReadDeadline(time.Time{})
		}
		in.lent.Store(false)
		err := in.readAndLend()
		in.lent.Store(err == nil)
		in.mu.Unlock()
		if err != nil {
			in.c.fail(err)
			return
		}
		if !in.watch() {
			return
		}
	}
}

// readAndLend reads until callers may.
func (in *inbox) readAndLend() error {
	for {
		replies, err := in.step(in.c.conn)
		switch {
		case err != nil:
			return err
		case replies == 0:
		case replies == 1 && in.canLend && in.c.idle():
			if in.single++; in.single > lendAfter {
				return nil
			}
		default:
			in.single = 0
		}
	}
}

// watch waits until the connection is to be taken back. False: it has ended.
func (in *inbox) watch() bool {
	in.tick.Reset(lendTick)
	defer in.tick.Stop()
	last := in.c.lastSerial()
	for {
		select {
		case <-in.c.done:
			return false
		case <-in.recall:
			return true
		case <-in.tick.C:
		}
		serial := in.c.lastSerial()
		if serial == last {
			return true
		}
		last = serial
	}
}

// borrow has the caller of k read, if the connection is lent, until k has its
// reply or the connection is taken back.
func (in *inbox) borrow(k *call) {
	if !in.canLend {
		return
	}
	if !in.mu.TryLock() {
		in.takeBack()
		return
	}
	var from io.Reader = in.c.conn
	if s, ok := in.c.conn.(*socket); ok {
		from = patiently{s}
	}
	var err error
	for err == nil && len(k.done) == 0 {
		_, err = in.step(from)
	}
	if !in.c.idle() {
		in.single = 0
	}
	if err != nil && err != errInterrupted {
		in.c.fail(err) // before the goroutine reads on, and fails for another reason
	}
	in.mu.Unlock()
}

// takeBack ends the lending, if there is any: there is more than one who waits
// for something, and the goroutine can wait for all of them.
func (in *inbox) takeBack() {
	if !in.lent.Load() {
		return // there will be no lending before whoever asks has what it waits for
	}
	select {
	case in.recall <- struct{}{}:
	default:
	}
}

// step waits for bytes from the connection, which from reads, and deals with all frames that are whole then. It tells
// how many replies were among them. Called with mu held.
func (in *inbox) step(from io.Reader) (replies int, err error) {
	if in.large != nil {
		return in.stepLarge(from)
	}
	n, err := in.read(from, in.buf[in.have:])
	if err != nil {
		return 0, err
	}
	in.have += n
	used := 0
	for in.have-used >= 4 {
		// A length that cannot be is told before the rest of the frame is there.
		size, err := FrameLength(in.buf[used:])
		if err != nil {
			return replies, err
		}
		if size > len(in.buf) {
			in.size = size
			in.large = append(make([]byte, 0, min(size, 2*firstStep)), in.buf[used:in.have]...)
			used = in.have
			break
		}
		if in.have-used < size {
			break
		}
		h := ParseHeader(in.buf[used:])
		if err := in.c.dispatch(h, in.buf[used+HeaderSize:used+size], false); err != nil {
			return replies, err
		}
		if h.Type == TypeReply {
			replies++
		}
		used += size
	}
	in.have = copy(in.buf, in.buf[used:in.have])
	return replies, nil
}

// stepLarge is step within a large frame. Its memory grows with what arrives.
func (in *inbox) stepLarge(from io.Reader) (replies int, err error) {
	if len(in.large) == cap(in.large) {
		grown := make([]byte, len(in.large), min(in.size, 2*cap(in.large)))
		copy(grown, in.large)
		in.large = grown
	}
	n, err := in.read(from, in.large[len(in.large):cap(in.large)])
	if err != nil {
		return 0, err
	}
	in.large = in.large[:len(in.large)+n]
	if len(in.large) < in.size {
		return 0, nil
	}
	frame := in.large
	in.large = nil
	h := ParseHeader(frame)
	if h.Type == TypeReply {
		replies = 1
	}
	return replies, in.c.dispatch(h, frame[HeaderSize:], true)
}

func (in *inbox) read(from io.Reader, p []byte) (int, error) {
	n, err := from.Read(p)
	switch {
	case n > 0:
		in.c.lastRead.Store(int64(time.Since(in.c.start)))
		return n, nil
	case err == nil:
		return 0, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, errInterrupted
	case in.large != nil:
		return 0, fmt.Errorf("after %d of %d bytes of a frame: %w", len(in.large), in.size, err)
	case in.have > 0:
		return 0, fmt.Errorf("in the middle of a frame: %w", err)
	}
	return 0, err
}
