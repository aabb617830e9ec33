package libvirt

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/classed"
	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/rpc"
)

// console is an open console, on a connection of its own: who reads slowly stops that
// one and nothing else.
type console struct {
	i      *instance
	s      *session
	stream *rpc.Stream
	id     int // of the run
	once   sync.Once

	mu     sync.Mutex // guards the following
	replay []byte
	end    error // what Read gives from the end on
	closed bool
}

// OpenConsole opens the first serial port or console.
func (i *instance) OpenConsole(ctx context.Context, o polyvisor.ConsoleOptions) (_ io.ReadWriteCloser, err error) {
	main, err := i.d.link.session()
	if err != nil {
		return nil, err
	}
	dom, err := main.LookupByUUID(ctx, i.dom.UUID)
	if err != nil {
		return nil, main.failed(err)
	}
	s, err := connect(ctx, i.d.target, i.d.opts, rpc.Options{
		KeepAlive: i.d.opts.KeepAlive, KeepAliveCount: i.d.opts.KeepAliveCount, PauseStreams: true,
	})
	if err != nil {
		return nil, opening(ctx, err)
	}
	var flags libvirt.DomainConsoleFlags
	if o.Force {
		flags = libvirt.DomainConsoleForce
	}
	stream, err := s.OpenConsole(ctx, &i.dom, flags)
	if err != nil {
		s.close()
		if number(err) == libvirt.ErrOperationFailed {
			return nil, classed.As(polyvisor.ErrBusy, err) // this is the one case in which libvirt says so
		}
		return nil, s.failed(err)
	}
	c := &console{i: i, s: s, stream: stream, id: int(dom.ID)}
	// The log has also what nobody has read, if there is one within reach.
	if c.replay = i.printed(ctx, main); c.replay == nil {
		c.replay = i.record().kept(c.id)
	}
	return c, nil
}

// Read gives what the guest prints.
func (c *console) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(c.replay) > 0 {
		n := copy(p, c.replay)
		c.replay = c.replay[n:]
		c.mu.Unlock()
		return n, nil
	}
	end := c.end
	c.mu.Unlock()
	if end != nil {
		return 0, end
	}
	n, err := c.stream.Read(p)
	if err == nil || n > 0 {
		c.i.record().keep(c.id, p[:n])
		return n, nil
	}
	return 0, c.ended(err)
}

// ended says why the stream has ended: the console was closed here, the domain has
// stopped, or someone has taken the console over, which libvirt does not tell apart.
func (c *console) ended(err error) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if !closed {
		err = c.why(err)
	} else {
		err = io.ErrClosedPipe
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = err
	}
	return c.end
}

func (c *console) why(err error) error {
	if errors.Is(err, rpc.ErrLost) {
		return lost(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	for {
		main, serr := c.i.d.link.session()
		if serr != nil {
			return serr
		}
		dom, serr := main.LookupByUUID(ctx, c.i.dom.UUID)
		switch {
		case number(serr) == libvirt.ErrNoDomain, serr == nil && int(dom.ID) != c.id:
			return io.EOF
		case errors.Is(serr, context.DeadlineExceeded):
			return takenOver
		case serr != nil:
			return main.failed(serr)
		}
		select {
		case <-ctx.Done():
			return takenOver
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// takenOver is what the former owner of a console reads.
var takenOver = classed.As(polyvisor.ErrBusy, errors.New("the console was taken over"))

// Write types.
func (c *console) Write(p []byte) (int, error) {
	n, err := c.stream.Write(p)
	if err != nil {
		err = c.ended(err)
	}
	return n, err
}

// Close gives the console up.
func (c *console) Close() error {
	c.once.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		// libvirt frees the console when the stream is ended; the end of the
		// connection alone would do, a little later.
		_ = c.stream.Close()
		c.s.close()
	})
	return nil
}

var _ polyvisor.ConsoleOpener = (*instance)(nil)
