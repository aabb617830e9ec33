package polyvisor

import (
	"context"
	"io"
	"sync"
)

// Console opens the domain's first serial port. What the guest printed before
// is read first, as far as it is kept. One owner at a time: ErrBusy if the
// console is in use and Force is not set. Read gives io.EOF when the domain
// stops, and an error that matches ErrBusy when the console was taken over. The
// caller closes it; closing the Conn closes it too.
func (d *Domain) Console(ctx context.Context, o ConsoleOptions) (io.ReadWriteCloser, error) {
	var con *console
	err := change(ctx, d, OpConsole, FeatureConsole, nil, func(ctx context.Context, i ConsoleOpener, _ bool) error {
		rwc, err := i.OpenConsole(ctx, o)
		if err != nil {
			return err
		}
		con = &console{ReadWriteCloser: rwc, conn: d.conn}
		if !d.conn.track(con) {
			_ = rwc.Close()
			return ErrClosed
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return con, nil
}

// console is a console that the connection closes with itself.
type console struct {
	io.ReadWriteCloser
	conn *Conn
	once sync.Once
	err  error
}

// track makes Close close con too. It reports false if Close is under way.
func (c *Conn) track(con *console) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.consoles[con] = struct{}{}
	return true
}

func (c *console) Close() error {
	c.once.Do(func() {
		c.err = c.ReadWriteCloser.Close()
		// Last, so that Conn.Close waits for it.
		c.conn.mu.Lock()
		delete(c.conn.consoles, c)
		c.conn.mu.Unlock()
	})
	return c.err
}
