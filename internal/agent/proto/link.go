package proto

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Link is one side of a connection. Its methods are for concurrent use, except
// that one goroutine at a time reads: Receive, then Serve.
type Link struct {
	conn io.ReadWriteCloser
	r    *bufio.Reader
	head [headerSize]byte // of the reader

	wmu     sync.Mutex
	scratch []byte // a frame to be written

	in  [streams]*Inbox
	out [streams]*Outbox
}

// NewLink makes a side of a connection, which the caller closes by Close.
func NewLink(conn io.ReadWriteCloser) *Link {
	return &Link{conn: conn, r: bufio.NewReaderSize(conn, 4096)}
}

// Close closes the connection. Everything under way on it ends.
func (l *Link) Close() error { return l.conn.Close() }

// Inbox makes the receiving end of a stream. It is called before Serve.
func (l *Link) Inbox(stream uint8) *Inbox {
	i := &Inbox{link: l, stream: stream}
	i.cond.L = &i.mu
	l.in[stream] = i
	return i
}

// Outbox makes the sending end of a stream. It is called before Serve. onStop, if
// not nil, is called when the other side wants no more or the connection ends, by the
// goroutine of Serve, which it must not hold up.
func (l *Link) Outbox(stream uint8, onStop func()) *Outbox {
	o := &Outbox{link: l, stream: stream, credit: Window, onStop: onStop}
	o.cond.L = &o.mu
	l.out[stream] = o
	return o
}

// ErrTooLong means that a message was not sent, because it is larger than any may be.
var ErrTooLong = errors.New("too much for one request to the guest's agent")

// Send sends a message as JSON.
func (l *Link) Send(t Type, message any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > t.limit() {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLong, len(b), t.limit())
	}
	return l.send(t, 0, b)
}

// SendNumber sends a signal, or a size: columns + rows<<16.
func (l *Link) SendNumber(t Type, n uint32) error { return l.number(t, 0, n) }

func (l *Link) number(t Type, stream uint8, n uint32) error {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], n)
	return l.send(t, stream, b[:])
}

// send writes a frame in one piece.
func (l *Link) send(t Type, stream uint8, payload []byte) error {
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.scratch = append(l.scratch[:0], make([]byte, headerSize)...)
	header{t, stream, len(payload)}.put(l.scratch)
	l.scratch = append(l.scratch, payload...)
	_, err := l.conn.Write(l.scratch)
	return err
}

// sendFrame writes a frame whose header's place is at the beginning of b.
func (l *Link) sendFrame(t Type, stream uint8, b []byte) error {
	header{t, stream, len(b) - headerSize}.put(b)
	l.wmu.Lock()
	defer l.wmu.Unlock()
	_, err := l.conn.Write(b)
	return err
}

// Receive reads one message, which is not of a stream.
func (l *Link) Receive() (Type, []byte, error) {
	h, err := readHeader(l.r, l.head[:])
	if err != nil {
		return 0, nil, err
	}
	switch h.typ {
	case TypeData, TypeEnd, TypeCredit, TypeStop:
		return 0, nil, breach("a frame of type %d before any answer", h.typ)
	}
	b, err := l.payload(h)
	return h.typ, b, err
}

// payload reads the bytes of a frame, whose number is bounded.
func (l *Link) payload(h header) ([]byte, error) {
	b := make([]byte, h.size)
	_, err := io.ReadFull(l.r, b)
	return b, whole(err)
}

// whole says that a frame was cut.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Serve reads frames until the connection ends, and gives all that is not about
// streams to handle. It never waits for who reads or writes a stream. Its error, nil if the
// other side closed between two frames, is that of the streams from then on.
func (l *Link) Serve(handle func(t Type, payload []byte) error) error {
	err := l.serve(handle)
	for s := range streams {
		if i := l.in[s]; i != nil {
			i.fail(whole(orEOF(err)))
		}
		if o := l.out[s]; o != nil {
			o.fail(orEOF(err))
		}
	}
	return err
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

func (l *Link) serve(handle func(t Type, payload []byte) error) error {
	for {
		h, err := readHeader(l.r, l.head[:])
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = l.frame(h, handle)
		}
		if err != nil {
			return err
		}
	}
}

func (l *Link) frame(h header, handle func(t Type, payload []byte) error) error {
	in, out := l.in[h.stream], l.out[h.stream]
	switch h.typ {
	case TypeData, TypeEnd:
		if in == nil {
			return breach("bytes of stream %d, which is not open in that direction", h.stream)
		}
		if h.typ == TypeEnd {
			return in.end()
		}
		return in.receive(l.r, h.size)
	case TypeCredit, TypeStop:
		if out == nil {
			return breach("credit for stream %d, which is not open in that direction", h.stream)
		}
		if h.typ == TypeStop {
			out.stop(ErrStopped)
			return nil
		}
		b, err := l.payload(h)
		if err != nil {
			return err
		}
		return out.grant(binary.LittleEndian.Uint32(b))
	}
	b, err := l.payload(h)
	if err != nil {
		return err
	}
	return handle(h.typ, b)
}
