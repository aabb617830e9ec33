package vmmproc

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Console is the guest's console: Read gives what it printed, beginning with up
// to 64 KiB of what it printed before; Write types. One goroutine may read while
// another writes. Read gives io.EOF when the machine has stopped, and an error
// that matches [ErrTakenOver] when another process took the console. Write blocks
// while the guest does not take its input.
type Console struct {
	f       *os.File
	dir     string
	session uint64
	rest    []byte // output that came with the reply
}

// askTimeout bounds the question why a session ended.
const askTimeout = 2 * time.Second

// Console attaches to the guest's console over a connection of its own. If it is
// in use, the error matches [ErrBusy], unless force is set: then the other user
// is told and detached. ctx bounds the attachment only.
func (c *Client) Console(ctx context.Context, force bool) (*Console, error) {
	cc, err := Dial(ctx, c.dir)
	if err != nil {
		return nil, err
	}
	var r consoleReply
	if err := cc.call(ctx, opConsole, consoleArgs{force}, &r); err != nil {
		cc.Close()
		return nil, err
	}
	return &Console{f: cc.f, dir: c.dir, session: r.Session, rest: cc.lines.rest()}, nil
}

// Read implements io.Reader.
func (c *Console) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.f.Read(p)
	if n == 0 && (err == io.EOF || errors.Is(err, unix.ECONNRESET)) {
		err = c.why()
	}
	return n, err
}

// why says what the end of the stream means.
func (c *Console) why() error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	cl, err := Dial(ctx, c.dir)
	if err != nil {
		return io.EOF // the VM process has ended, or is about to
	}
	defer cl.Close()
	var r detachedReply
	if err := cl.call(ctx, opDetached, consoleReply{c.session}, &r); err != nil || r.Error == nil {
		return io.EOF
	}
	return r.Error
}

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	n, err := c.f.Write(p)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		if err = c.why(); err == io.EOF {
			err = goneError(c.dir)
		}
	}
	return n, err
}

// SetSize tells the guest the size of the terminal, in characters, 0 for not known.
// An error matches [ErrTakenOver] if another process took the console.
func (c *Console) SetSize(ctx context.Context, cols, rows uint16) error {
	cl, err := Dial(ctx, c.dir)
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.call(ctx, opSize, sizeArgs{c.session, cols, rows}, nil)
}

// CloseWrite says that no more input will come. Output goes on.
func (c *Console) CloseWrite() error { return closeWrite(c.f) }

// SetDeadline makes calls that are blocked, and later ones, end at t; see
// os.File.SetDeadline.
func (c *Console) SetDeadline(t time.Time) error { return c.f.SetDeadline(t) }

// Close detaches from the console. Input that the guest has not taken by then may
// be lost.
func (c *Console) Close() error { return c.f.Close() }

var _ io.ReadWriteCloser = (*Console)(nil)
