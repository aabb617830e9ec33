package rpc

import "fmt"

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
