package rpc

import (
	"fmt"
	"time"
)

const (
	readBuffer = 64 << 10 // most frames are far smaller
	firstStep  = 64 << 10 // of the memory for a larger one
)

// read is the reading goroutine: it takes frames apart until the connection
// ends.
func (c *Client) read() {
	buf := make([]byte, readBuffer)
	have := 0 // bytes in buf
	for {
		used := 0
		for have-used >= HeaderSize {
			n, err := FrameLength(buf[used:])
			if err != nil {
				c.fail(err)
				return
			}
			if n > len(buf) {
				frame, err := c.readLarge(buf[used:have], n)
				if err == nil {
					err = c.dispatch(ParseHeader(frame), frame[HeaderSize:], true)
				}
				if err != nil {
					c.fail(err)
					return
				}
				used = have
				break
			}
			if have-used < n {
				break
			}
			if err := c.dispatch(ParseHeader(buf[used:]), buf[used+HeaderSize:used+n], false); err != nil {
				c.fail(err)
				return
			}
			used += n
		}
		have = copy(buf, buf[used:have])
		// A length that cannot be is told before the rest of the header is there.
		if have >= 4 {
			if _, err := FrameLength(buf); err != nil {
				c.fail(err)
				return
			}
		}
		n, err := c.conn.Read(buf[have:])
		if n > 0 {
			have += n
			c.lastRead.Store(int64(time.Since(c.start)))
		}
		if err != nil && n == 0 {
			if have > 0 {
				err = fmt.Errorf("in the middle of a frame: %w", err)
			}
			c.fail(err)
			return
		}
	}
}

// readLarge reads the rest of a frame of size bytes that begins with begun and
// is longer than the read buffer. Memory grows with what arrives.
func (c *Client) readLarge(begun []byte, size int) ([]byte, error) {
	frame := append(make([]byte, 0, min(size, 2*firstStep)), begun...)
	for len(frame) < size {
		if len(frame) == cap(frame) {
			grown := make([]byte, len(frame), min(size, 2*cap(frame)))
			copy(grown, frame)
			frame = grown
		}
		n, err := c.conn.Read(frame[len(frame):cap(frame)])
		if n > 0 {
			frame = frame[:len(frame)+n]
			c.lastRead.Store(int64(time.Since(c.start)))
		}
		if err != nil && n == 0 {
			return nil, fmt.Errorf("after %d of %d bytes of a frame: %w", len(frame), size, err)
		}
	}
	return frame, nil
}

// dispatch gives a frame to who waits for it. An error ends the connection.
// The payload is valid until dispatch returns; if owned, its receiver may keep
// it.
func (c *Client) dispatch(h Header, payload []byte, owned bool) error {
	if h.Type == TypeMessage {
		return c.dispatchMessage(h, payload)
	}
	switch h.Program {
	case ProgramRemote, ProgramQEMU, ProgramLXC:
	default:
		return fmt.Errorf("%w: %s: no such program", ErrProtocol, h)
	}
	if h.Version != version {
		return fmt.Errorf("%w: %s: no such version", ErrProtocol, h)
	}
	if h.Status > StatusContinue {
		return fmt.Errorf("%w: %s: no such status", ErrProtocol, h)
	}
	switch h.Type {
	case TypeReply:
		if h.Status == StatusContinue {
			return fmt.Errorf("%w: %s: a reply cannot be continued", ErrProtocol, h)
		}
		e, err := c.find(h, true)
		if e == nil {
			return err
		}
		return e.reply(h, payload, owned)
	case TypeStream, TypeStreamHole:
		e, err := c.find(h, false)
		if e == nil {
			return err // late data of a stream that was closed here
		}
		return e.stream(h, payload, owned)
	case TypeReplyWithFDs:
		return fmt.Errorf("%w: %s: descriptors were not asked for", ErrProtocol, h)
	case TypeCall, TypeCallWithFDs:
		return fmt.Errorf("%w: %s: a server makes no calls", ErrProtocol, h)
	}
	return fmt.Errorf("%w: %s: no such type", ErrProtocol, h)
}

// dispatchMessage handles keepalive and events. What is not known there is
// ignored: a newer server may have more to tell.
func (c *Client) dispatchMessage(h Header, payload []byte) error {
	if h.Version != version {
		return nil
	}
	switch h.Program {
	case ProgramKeepAlive:
		if h.Procedure == keepAlivePing {
			c.out.sendPong()
		}
		return nil
	case ProgramRemote, ProgramQEMU, ProgramLXC:
	default:
		return nil
	}
	if h.Status != StatusOK {
		return fmt.Errorf("%w: %s: an event has no such status", ErrProtocol, h)
	}
	if c.bridgeEvent(h, payload) {
		return nil
	}
	if c.opt.Event != nil {
		c.opt.Event(h.Program, h.Procedure, payload)
	}
	return nil
}
