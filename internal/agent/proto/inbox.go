package proto

import (
	"errors"
	"io"
	"sync"
)

// Inbox is the receiving end of a stream: a ring of a window's size. The goroutine of
// Link.Serve fills it and never waits; one other empties it.
type Inbox struct {
	link   *Link
	stream uint8

	mu     sync.Mutex
	cond   sync.Cond
	ring   []byte // made when the first bytes come
	start  int
	n      int // unread
	owed   int // read, and not yet allowed again
	ended  bool
	closed bool
	err    error
}

// receive reads bytes of a frame into the ring.
func (i *Inbox) receive(r io.Reader, size int) error {
	i.mu.Lock()
	if i.ended {
		i.mu.Unlock()
		return breach("bytes after the end of stream %d", i.stream)
	}
	if size > Window-i.n-i.owed {
		i.mu.Unlock()
		return breach("%d bytes of stream %d, but %d are allowed", size, i.stream, Window-i.n-i.owed)
	}
	if i.closed { // they count as unread, so that no more than a window of them comes
		i.n += size
		i.mu.Unlock()
		_, err := io.CopyN(io.Discard, r, int64(size))
		return whole(err)
	}
	if i.ring == nil && size > 0 {
		i.ring = make([]byte, Window)
	}
	at := (i.start + i.n) % Window
	i.mu.Unlock()
	// The reader touches none of the free part.
	first := min(size, Window-at)
	_, err := io.ReadFull(r, i.ring[at:at+first])
	if err == nil && first < size {
		_, err = io.ReadFull(r, i.ring[:size-first])
	}
	if err != nil {
		return whole(err)
	}
	i.mu.Lock()
	i.n += size
	i.mu.Unlock()
	i.cond.Broadcast()
	return nil
}

func (i *Inbox) end() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return breach("two ends of stream %d", i.stream)
	}
	i.ended = true
	i.cond.Broadcast()
	return nil
}

func (i *Inbox) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.err = err
	i.cond.Broadcast()
}

// next waits for bytes and gives those that lie together.
func (i *Inbox) next() ([]byte, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for {
		switch {
		case i.closed:
			return nil, io.ErrClosedPipe
		case i.n > 0:
			return i.ring[i.start:min(i.start+i.n, Window)], nil
		case i.ended:
			return nil, io.EOF
		case i.err != nil:
			return nil, i.err
		}
		i.cond.Wait()
	}
}

// taken lets go of bytes of next, and allows the other side as many once it is worth
// a frame.
func (i *Inbox) taken(n int) error {
	i.mu.Lock()
	if i.closed {
		i.mu.Unlock()
		return io.ErrClosedPipe
	}
	i.start = (i.start + n) % Window
	i.n -= n
	i.owed += n
	grant := 0
	if i.owed >= Window/4 && !i.ended && i.err == nil {
		grant, i.owed = i.owed, 0
	}
	i.mu.Unlock()
	if grant > 0 {
		return i.link.number(TypeCredit, i.stream, uint32(grant))
	}
	return nil
}

// Read gives what has come, io.EOF after the end, and io.ErrUnexpectedEOF or what broke
// the connection if there was none.
func (i *Inbox) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := i.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	// If the grant cannot be sent the connection is over, which a later Read tells.
	_ = i.taken(n)
	return n, nil
}

// WriteTo writes all to the end of the stream without copying it first. A failed write
// is told as a *WriteError.
func (i *Inbox) WriteTo(w io.Writer) (total int64, err error) {
	for {
		b, err := i.next()
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(b)
		total += int64(n)
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, &WriteError{err}
		}
		_ = i.taken(n)
	}
}

// WriteError is the error of the writer to which a stream goes.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap gives the writer's error.
func (e *WriteError) Unwrap() error { return e.Err }

// Close tells the other side that no more is wanted, unless all has come. A Read under
// way ends.
func (i *Inbox) Close() error {
	i.mu.Lock()
	tell := !i.closed && !i.ended && i.err == nil
	i.closed = true
	i.cond.Broadcast()
	i.mu.Unlock()
	if tell {
		return i.link.send(TypeStop, i.stream, nil)
	}
	return nil
}
