package rpc

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// maxOrphans is how many openings of streams may have been abandoned without
// the server having replied: each is remembered, as its stream must be aborted.
const maxOrphans = 1024

// Stream is data that goes with a call, one way or both: a console, the
// contents of a volume. Read and Write may be called at the same time, by one
// goroutine each; the other methods at any time.
type Stream struct {
	c                  *Client
	program, procedure uint32
	serial             uint32
	opening            *call

	answered  bool // the opening has its reply; guarded by Client.mu
	abandoned bool // the opener has gone; guarded by Client.mu

	gone chan struct{} // closed when writing makes no sense any more

	mu      sync.Mutex
	change  sync.Cond
	replied bool   // opening has its token
	buf     []byte // not read yet, from off
	off     int
	eof     bool  // the server has sent all
	over    bool  // no more frames come: confirmed, failed, closed here, or lost
	closed  bool  // Close or Finish was called here
	err     error // why it is over, nil if it ended well
}

// CallStream makes a call that opens a stream. Everything said of Call is true
// of it. The stream is the caller's to Close. Opening allocates.
func (c *Client) CallStream(ctx context.Context, program, procedure uint32, args func(*xdr.Writer), ret func(*xdr.Reader)) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Stream{c: c, program: program, procedure: procedure, opening: c.newCall(program, procedure), gone: make(chan struct{})}
	s.change.L = &s.mu
	k := s.opening
	if err := k.encode(args); err != nil {
		k.free()
		return nil, err
	}
	serial, err := c.register(s)
	if err != nil {
		k.free()
		return nil, err
	}
	s.serial = serial
	if c.out.send(ctx, s.header(TypeCall, StatusOK), k.args.Bytes()) {
		c.in.takeBack()
		select {
		case <-k.done:
			return s.opened(ret)
		case <-ctx.Done():
		}
		if s.abandon() {
			return nil, ctx.Err() // k stays with the stream
		}
	} else if c.unregister(serial, s) {
		k.free()
		return nil, ctx.Err()
	}
	<-k.done
	st, err := s.opened(ret)
	if err != nil {
		return nil, err
	}
	st.Close()
	return nil, ctx.Err()
}

// opened is called with the reply in s.opening.
func (s *Stream) opened(ret func(*xdr.Reader)) (*Stream, error) {
	k := s.opening
	refused := k.err != nil || k.status == StatusError
	err := k.decode(ret)
	s.opening = nil
	k.free()
	switch {
	case err == nil:
		return s, nil
	case !refused: // the stream is open, but its reply made no sense
		s.Close()
	}
	return nil, err
}

// abandon leaves the opening to the reader: when the reply comes the stream is
// aborted. False: the reply is there.
func (s *Stream) abandon() bool {
	c := s.c
	s.mu.Lock()
	s.closed = true // data that comes before the reply is not kept
	s.mu.Unlock()
	c.mu.Lock()
	if s.answered || c.waiting[s.serial] != s {
		c.mu.Unlock()
		return false
	}
	s.abandoned = true
	c.orphans++
	tooMany := c.orphans > maxOrphans
	c.mu.Unlock()
	if tooMany {
		c.fail(fmt.Errorf("%w: the server did not reply to any of %d requests for streams", ErrProtocol, maxOrphans))
	}
	return true
}

func (s *Stream) header(typ, status uint32) Header {
	return Header{Program: s.program, Version: version, Procedure: s.procedure, Type: typ, Serial: s.serial, Status: status}
}

func (s *Stream) matches(h Header) bool { return h.Program == s.program && h.Procedure == s.procedure }

func (s *Stream) stays(h Header) bool {
	if s.abandoned {
		s.c.orphans--
		return false
	}
	s.answered = true
	return h.Status == StatusOK
}

func (s *Stream) reply(h Header, payload []byte, owned bool) error {
	if !s.answered { // abandoned; only this goroutine writes answered
		if h.Status == StatusOK {
			s.c.out.control(s.header(TypeStream, StatusError), nil)
		}
		return nil
	}
	s.mu.Lock()
	again := s.replied
	s.replied = true
	s.mu.Unlock()
	if again {
		return fmt.Errorf("%w: %s is a second reply", ErrProtocol, h)
	}
	return s.opening.reply(h, payload, owned)
}

// stream is called by the reading goroutine.
func (s *Stream) stream(h Header, payload []byte, _ bool) error {
	s.mu.Lock()
	early := !s.replied
	s.mu.Unlock()
	switch {
	case h.Type == TypeStream && h.Status == StatusContinue:
		return s.data(h, payload, early)
	case early:
		return fmt.Errorf("%w: %s comes before the reply that opens the stream", ErrProtocol, h)
	case h.Type == TypeStreamHole:
		s.refuse(fmt.Errorf("%w: %s: holes were not asked for", ErrProtocol, h))
		return nil
	}
	var err error
	if h.Status == StatusError {
		err = decodeError(xdr.NewReader(payload))
	}
	s.c.unregister(h.Serial, s)
	s.end(err)
	return nil
}

// data queues what the server sent.
func (s *Stream) data(h Header, payload []byte, early bool) error {
	s.mu.Lock()
	if s.c.opt.PauseStreams && !early && s.full(payload) {
		s.c.paused.Store(true)
		for s.full(payload) {
			s.change.Wait()
		}
		s.c.paused.Store(false)
	}
	if s.full(payload) {
		s.mu.Unlock()
		if early {
			return fmt.Errorf("%w: %s: more than %d bytes came before the reply that opens the stream", ErrProtocol, h, s.c.opt.StreamQueue)
		}
		s.refuse(ErrStreamOverflow)
		return nil
	}
	defer s.mu.Unlock()
	switch {
	case s.over || s.closed || s.eof:
		return nil // nobody reads it
	case len(payload) == 0:
		s.eof = true
	default:
		if s.off > 0 && len(s.buf)+len(payload) > cap(s.buf) {
			s.buf = s.buf[:copy(s.buf, s.buf[s.off:])]
			s.off = 0
		}
		s.buf = append(s.buf, payload...)
	}
	s.change.Broadcast()
	return nil
}

// full tells whether the queue has no room for payload. Called with mu held.
func (s *Stream) full(payload []byte) bool {
	queued := len(s.buf) - s.off
	return !s.over && !s.closed && !s.eof && queued > 0 && len(payload) > 0 && queued+len(payload) > s.c.opt.StreamQueue
}

// refuse ends the stream from this side for a reason the reader is told.
func (s *Stream) refuse(err error) {
	if s.c.unregister(s.serial, s) {
		s.c.out.control(s.header(TypeStream, StatusError), nil)
	}
	s.end(err)
}

// end says that no more frames come.
func (s *Stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.err = true, err
	close(s.gone)
	s.change.Broadcast()
}

func (s *Stream) lost(err error) {
	s.mu.Lock()
	first := !s.replied
	s.replied = true
	s.mu.Unlock()
	s.end(err)
	if first {
		s.opening.lost(err)
	}
}

// Read gives what the server sent, and waits if nothing is there. io.EOF: the
// server has sent everything. After that, and after Close, what is queued is
// still given when the server or a lost connection ended the stream; the error
// that did so comes behind it.
func (s *Stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, ErrStreamClosed
		case len(p) == 0:
			return 0, nil
		case s.off < len(s.buf):
			n := copy(p, s.buf[s.off:])
			s.off += n
			if s.off == len(s.buf) {
				s.off = 0
				s.buf = s.buf[:0]
				if cap(s.buf) > keepBuffer {
					s.buf = nil
				}
			}
			s.change.Broadcast()
			return n, nil
		case s.err != nil:
			return 0, s.err
		case s.eof || s.over:
			return 0, io.EOF
		}
		s.change.Wait()
	}
}

// Write sends p. It returns when all is queued for the socket, of which a
// bounded amount can be; so it waits for a server that does not read, until
// Close.
func (s *Stream) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := s.writable(); err != nil {
			return written, err
		}
		if written == len(p) {
			return written, nil
		}
		part := p[written:min(len(p), written+maxStreamPayload)]
		if s.c.out.send(stop(s.gone), s.header(TypeStream, StatusContinue), part) {
			written += len(part)
		}
	}
}

// writable gives the error of a stream that cannot be written to.
func (s *Stream) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrStreamClosed
	case s.err != nil:
		return s.err
	case s.over: // the server said that all is well, and will hear no more
		return ErrStreamClosed
	}
	return nil
}

// Finish tells the server that everything was sent, waits until it says that
// it has dealt with all, and closes the stream. What the server still sends is
// dropped. The error is the server's, as an *Error, if it could not; or
// ctx.Err(), and then the stream is aborted.
func (s *Stream) Finish(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrStreamClosed
	}
	s.closed = true
	over, err := s.over, s.err
	s.change.Broadcast()
	s.mu.Unlock()
	if over {
		return err
	}
	if s.c.out.send(ctx, s.header(TypeStream, StatusOK), nil) {
		select {
		case <-s.gone:
		case <-ctx.Done():
		}
	}
	select {
	case <-s.gone:
	default:
		if s.c.unregister(s.serial, s) {
			s.c.out.control(s.header(TypeStream, StatusError), nil)
			s.end(ErrStreamClosed)
			return ctx.Err()
		}
		<-s.gone // the reader, or who ended the connection, is about to
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close aborts the stream unless it is over already. It does not wait for the
// server; whatever still comes is dropped. Reads and writes under way return
// ErrStreamClosed. The error is always nil.
func (s *Stream) Close() error {
	s.mu.Lock()
	finishing := s.closed
	s.closed = true
	s.buf = nil
	s.off = 0
	s.change.Broadcast()
	s.mu.Unlock()
	if !finishing && s.c.unregister(s.serial, s) {
		s.c.out.control(s.header(TypeStream, StatusError), nil)
		s.end(ErrStreamClosed)
	}
	return nil
}
