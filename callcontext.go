package polyvisor

import (
	"context"
	"sync"
)

// callContext is the context that a driver is given for a call: the caller's,
// which also ends when the call is over, when the connection is closed, and when
// Destroy aborts a Start. Most calls end before anyone waits for it, so what
// that takes is made when Done is called first.
type callContext struct {
	context.Context // the caller's
	conn            *Conn

	mu     sync.Mutex // protects the following
	over   bool
	inner  context.Context // nil until it is needed
	cancel context.CancelCauseFunc
	stop   func() bool // of what watches the connection
}

// begin begins a call.
func (c *Conn) begin(ctx context.Context) (*callContext, error) {
	if err := checkContext(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	c.calls.Add(1)
	return &callContext{Context: ctx, conn: c}, nil
}

// end ends the call, and the context for those who keep it.
func (c *callContext) end() {
	c.mu.Lock()
	c.over = true
	cancel, stop := c.cancel, c.stop
	c.mu.Unlock()
	if cancel != nil {
		stop()
		cancel(nil)
	}
	c.conn.calls.Done()
}

// abort cancels the call for a reason of the library's own.
func (c *callContext) abort(cause error) {
	c.made()
	c.cancel(cause)
}

// made gives the context that can be waited for.
func (c *callContext) made() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		inner, cancel := context.WithCancelCause(c.Context)
		c.inner, c.cancel = inner, cancel
		switch {
		case c.over:
			cancel(nil)
		case c.conn.ctx.Err() != nil:
			cancel(ErrClosed)
		default:
			c.stop = context.AfterFunc(c.conn.ctx, func() { cancel(ErrClosed) })
			return inner
		}
		c.stop = func() bool { return false }
	}
	return c.inner
}

func (c *callContext) Done() <-chan struct{} { return c.made().Done() }

func (c *callContext) Err() error {
	c.mu.Lock()
	inner, over := c.inner, c.over
	c.mu.Unlock()
	switch {
	case inner != nil:
	case over || c.conn.ctx.Err() != nil:
		inner = c.made()
	default:
		return c.Context.Err()
	}
	return inner.Err()
}

// Value finds the cancellation of the inner context too, which is how package
// context gets at its cause.
func (c *callContext) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.Context.Value(key)
}
