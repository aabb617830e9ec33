package proto

import (
	"errors"
	"io"
	"sync"
)

// ErrStopped means that the other side wants no more of a stream.
var ErrStopped = errors.New("the other side reads no more")

// Outbox is the sending end of a stream. One goroutine writes to it.
type Outbox struct {
	link   *Link
	stream uint8
	onStop func()
	buf    []byte

	mu     sync.Mutex
	cond   sync.Cond
	credit int
	closed bool
	err    error
}

// grant allows more bytes.
func (o *Outbox) grant(n uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if uint64(n) > uint64(Window-o.credit) {
		return breach("credit of %d bytes for stream %d, which has %d of %d", n, o.stream, o.credit, Window)
	}
	o.credit += int(n)
	o.cond.Broadcast()
	return nil
}

// stop ends the stream from the other side.
func (o *Outbox) stop(err error) {
	o.mu.Lock()
	first := o.err == nil
	if first {
		o.err = err
	}
	o.cond.Broadcast()
	o.mu.Unlock()
	if first && o.onStop != nil {
		o.onStop()
	}
}

func (o *Outbox) fail(err error) { o.stop(err) }

// take waits until bytes may be sent, and gives their number, at most MaxData.
func (o *Outbox) take(most int) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		switch {
		case o.closed:
			return 0, io.ErrClosedPipe
		case o.err != nil:
			return 0, o.err
		case o.credit > 0:
			n := min(o.credit, most, MaxData)
			o.credit -= n
			return n, nil
		}
		o.cond.Wait()
	}
}

// back gives credit back that was not used.
func (o *Outbox) back(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.credit += n
}

// frame gives the place for a frame of n bytes.
func (o *Outbox) frame(n int) []byte {
	if len(o.buf) < headerSize+n {
		o.buf = make([]byte, headerSize+n)
	}
	return o.buf[:headerSize+n]
}

// Write sends bytes as fast as the other side reads them.
func (o *Outbox) Write(p []byte) (total int, err error) {
	for total < len(p) {
		n, err := o.take(len(p) - total)
		if err != nil {
			return total, err
		}
		f := o.frame(n)
		copy(f[headerSize:], p[total:total+n])
		if err := o.link.sendFrame(TypeData, o.stream, f); err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// ReadError is the error of the reader from which a stream comes.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return e.Err.Error() }

// Unwrap gives the reader's error.
func (e *ReadError) Unwrap() error { return e.Err }

// ReadFrom sends all that r has. It reads only what may be sent. An error of r is told as
// a *ReadError.
func (o *Outbox) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		n, err := o.take(MaxData)
		if err != nil {
			return total, err
		}
		f := o.frame(MaxData)
		got, rerr := r.Read(f[headerSize : headerSize+n])
		if got < 0 || got > n {
			return total, &ReadError{errors.New("the reader gave a number of bytes that cannot be")}
		}
		o.back(n - got)
		if got > 0 {
			if err := o.link.sendFrame(TypeData, o.stream, f[:headerSize+got]); err != nil {
				return total, err
			}
			total += int64(got)
		}
		if errors.Is(rerr, io.EOF) {
			return total, nil
		}
		if rerr != nil {
			return total, &ReadError{rerr}
		}
	}
}

// Close ends the stream.
func (o *Outbox) Close() error {
	o.mu.Lock()
	tell := !o.closed && o.err == nil
	o.closed = true
	o.cond.Broadcast()
	o.mu.Unlock()
	if tell {
		return o.link.send(TypeEnd, o.stream, nil)
	}
	return nil
}
