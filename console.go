package polyvisor

import (
	"context"
	"io"
	"sync"
)

// Console opens the domain's console. What the guest printed before
// is read first, as far as it is kept. One owner at a time: ErrBusy if the
// console is in use and Force is not set. Read gives io.EOF when the domain
// stops, and an error that matches ErrBusy when the console was taken over. The
// caller closes it; closing the Conn closes it too.
//
// The console of a domain with ConsoleConfig.Virtio is a ConsoleResizer:
//
//	if r, ok := con.(polyvisor.ConsoleResizer); ok {
//		err = r.Resize(ctx, 80, 24)
//	}
func (d *Domain) Console(ctx context.Context, o ConsoleOptions) (io.ReadWriteCloser, error) {
	var con *console
	err := change(ctx, d, OpConsole, FeatureConsole, nil, func(ctx context.Context, i ConsoleOpener, _ bool) error {
		rwc, err := i.OpenConsole(ctx, o)
		if err != nil {
			return err
		}
		con = &console{rwc, owned{conn: d.conn}}
		return d.conn.adopt(con)
	})
	if err != nil {
		return nil, err
	}
	if r, ok := As[ConsoleResizer](con.ReadWriteCloser); ok {
		return &sizedConsole{con, d, r}, nil
	}
	return con, nil
}

// sizedConsole is a console whose terminal has a size.
type sizedConsole struct {
	*console
	d *Domain
	r ConsoleResizer
}

func (c *sizedConsole) Resize(ctx context.Context, cols, rows uint16) error {
	return c.d.read(ctx, "resize console", func(ctx context.Context) error { return c.r.Resize(ctx, cols, rows) })
}

// console is a console that the connection closes with itself.
type console struct {
	io.ReadWriteCloser
	owned
}

func (c *console) Close() error { return c.close(c, c.ReadWriteCloser) }

// owned is what a thing has that its connection closes with itself.
type owned struct {
	conn *Conn
	once sync.Once
	err  error
}

// close closes what is below f, which was adopted, once.
func (o *owned) close(f, below io.Closer) error {
	o.once.Do(func() {
		o.err = below.Close()
		// Last, so that Conn.Close waits for it.
		o.conn.disown(f)
	})
	return o.err
}

// adopt makes Close close f too. If Close is under way already f is closed and
// the error is ErrClosed.
func (c *Conn) adopt(f io.Closer) error {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.open[f] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		_ = f.Close()
		return ErrClosed
	}
	return nil
}

// disown undoes adopt; f is closed.
func (c *Conn) disown(f io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, f)
}
