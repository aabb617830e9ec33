package rpc

import (
	"context"
	"fmt"
	"sync"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// keepBuffer is the largest buffer that is kept for the next use.
const keepBuffer = 64 << 10

// call is a call under way. It is reused: what another goroutine does with it
// ends with the one token in done.
type call struct {
	pool *sync.Pool

	program, procedure uint32

	done   chan struct{} // one token when status, in or err is there
	status uint32
	in     []byte // payload of the reply
	err    error

	args xdr.Writer
	ret  xdr.Reader
}

func (c *Client) newCall(program, procedure uint32) *call {
	k, _ := c.calls.Get().(*call)
	if k == nil {
		k = &call{pool: &c.calls, done: make(chan struct{}, 1)}
	}
	k.program, k.procedure = program, procedure
	return k
}

// free makes the call available again. Only for who knows that no other
// goroutine has it.
func (k *call) free() {
	args := k.args.Bytes()
	if cap(args) > keepBuffer {
		args = nil
	}
	k.args.Reset(args[:0])
	if cap(k.in) > keepBuffer {
		k.in = nil
	}
	k.in, k.err = k.in[:0], nil
	k.ret.Reset(nil)
	k.pool.Put(k)
}

func (k *call) matches(h Header) bool { return h.Program == k.program && h.Procedure == k.procedure }
func (k *call) stays(Header) bool     { return false }

func (k *call) reply(h Header, payload []byte, owned bool) error {
	k.status = h.Status
	if owned {
		k.in = payload
	} else {
		k.in = append(k.in[:0], payload...)
	}
	k.done <- struct{}{}
	return nil
}

func (k *call) stream(h Header, _ []byte, _ bool) error {
	return fmt.Errorf("%w: %s is data of a stream for a call that opens none", ErrProtocol, h)
}

func (k *call) lost(err error) {
	k.err = err
	k.done <- struct{}{}
}

// encode has args write the arguments.
func (k *call) encode(args func(*xdr.Writer)) error {
	if args != nil {
		args(&k.args)
	}
	if err := k.args.Err(); err != nil {
		return fmt.Errorf("procedure %d: %w: %w", k.procedure, ErrTooLarge, err)
	}
	if n := k.args.Len(); n > MaxMessage-(HeaderSize-4) {
		return fmt.Errorf("procedure %d: arguments of %d bytes, the limit is %d: %w", k.procedure, n, MaxMessage-(HeaderSize-4), ErrTooLarge)
	}
	return nil
}

// decode has ret read the reply.
func (k *call) decode(ret func(*xdr.Reader)) error {
	if k.err != nil {
		return k.err
	}
	k.ret.Reset(k.in)
	if k.status == StatusError {
		return decodeError(&k.ret)
	}
	if ret != nil {
		ret(&k.ret)
	}
	if err := k.ret.Err(); err != nil {
		return fmt.Errorf("%w: reply of procedure %d: %w", ErrProtocol, k.procedure, err)
	}
	return nil
}

// Call makes one call and waits for its reply. args writes the arguments, ret
// reads the result; nil means that there are none. Both are called at most once,
// before Call returns, by the calling goroutine; what ret gets from the reader
// without copying is valid until ret returns. Call allocates nothing itself.
//
// The error is an *Error if the server replied with one; ctx.Err() if ctx ended
// first, in which case the server may still do what it was asked, its reply is
// dropped, and the connection stays usable; one that wraps ErrLost, or
// ErrClosed, when the connection ended; ErrProtocol when the reply cannot be
// decoded; ErrTooLarge when nothing was sent.
func (c *Client) Call(ctx context.Context, program, procedure uint32, args func(*xdr.Writer), ret func(*xdr.Reader)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k := c.newCall(program, procedure)
	if err := k.encode(args); err != nil {
		k.free()
		return err
	}
	serial, err := c.register(k)
	if err != nil {
		k.free()
		return err
	}
	h := Header{Program: program, Version: version, Procedure: procedure, Type: TypeCall, Serial: serial}
	if c.out.send(ctx, h, k.args.Bytes()) {
		c.in.borrow(k)
		if len(k.done) > 0 { // and the channel of ctx is not needed
			<-k.done
			err = k.decode(ret)
			k.free()
			return err
		}
		select {
		case <-k.done:
			err = k.decode(ret)
			k.free()
			return err
		case <-ctx.Done():
		}
	}
	// The context ended, or the connection.
	if c.unregister(serial, k) {
		err = ctx.Err()
	} else {
		// The reader, or who ended the connection, has the call in hand and
		// waits for nobody. An outcome that is known is better than none.
		<-k.done
		err = k.decode(ret)
	}
	k.free()
	return err
}
