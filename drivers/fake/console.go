package fake

import (
	"context"
	"fmt"
	"io"

	"github.com/polyvisor/polyvisor"
)

// How much the console keeps: for those who come later, and at most for an
// owner who does not read.
const (
	replay    = 8 * polyvisor.KiB
	maxUnread = 1 * polyvisor.MiB
)

// output is what the guest printed, the last of it.
type output struct {
	data []byte
	base uint64 // position of data[0] in all that was printed
}

func (o *output) end() uint64 { return o.base + uint64(len(o.data)) }

// write keeps at least the last `replay` bytes, and what is behind the position
// that someone has yet to read, within bounds.
func (o *output) write(p string, unread uint64) {
	o.data = append(o.data, p...)
	if len(o.data) < 2*replay {
		return
	}
	from := o.end() - replay
	if unread < from {
		from = max(unread, o.end()-min(o.end(), maxUnread))
	}
	if drop := int(from - min(from, o.base)); drop >= replay {
		o.data = append([]byte(nil), o.data[drop:]...)
		o.base += uint64(drop)
	}
}

// console is an open console. Its fields are under Hypervisor.mu.
type console struct {
	c     *driver
	g     *guest
	pos   uint64
	err   error         // ends it
	ready chan struct{} // has an element when there may be something to read
}

var (
	errConsoleClosed = fmt.Errorf("console: %w", polyvisor.ErrClosed)
	errTakenOver     = fmt.Errorf("%w: the console was taken over", polyvisor.ErrBusy)
)

// OpenConsole opens the console of an active domain.
func (i *instance) OpenConsole(ctx context.Context, o polyvisor.ConsoleOptions) (con io.ReadWriteCloser, err error) {
	err = i.do(ctx, opConsole, func(d *domain) error {
		if err := d.demandLocked(polyvisor.OpConsole); err != nil {
			return err
		}
		g := d.run.guestLocked()
		if old := g.owner; old != nil {
			if !o.Force {
				return fmt.Errorf("%w: the console is in use", polyvisor.ErrBusy)
			}
			old.failLocked(errTakenOver)
		}
		n := &console{c: i.c, g: g, pos: g.out.base, ready: make(chan struct{}, 1)}
		g.owner = n
		if i.c.consoles == nil {
			i.c.consoles = make(map[*console]struct{})
		}
		i.c.consoles[n] = struct{}{}
		con = n
		if g.r.config.Console.Virtio {
			con = &sizedConsole{n}
		}
		return nil
	})
	if err != nil && con != nil {
		_ = con.Close()
		con = nil
	}
	return con, err
}

// sizedConsole is one whose terminal has a size.
type sizedConsole struct{ *console }

// Resize tells the guest the size of the terminal.
func (n *sizedConsole) Resize(ctx context.Context, cols, rows uint16) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	n.c.h.mu.Lock()
	defer n.c.h.unlock()
	if n.err != nil {
		return n.err
	}
	n.g.r.cols, n.g.r.rows = cols, rows
	return nil
}

// failLocked ends the console.
func (n *console) failLocked(err error) {
	if n.err == nil {
		n.err = err
	}
	if n.g.owner == n {
		n.g.owner = nil
	}
	delete(n.c.consoles, n)
	n.wakeLocked()
}

func (n *console) wakeLocked() {
	select {
	case n.ready <- struct{}{}:
	default:
	}
}

// Read waits for output; io.EOF after the end of the run.
func (n *console) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if k, err := n.take(p); k > 0 || err != nil {
			return k, err
		}
		<-n.ready
	}
}

func (n *console) take(p []byte) (int, error) {
	n.c.h.mu.Lock()
	defer n.c.h.unlock()
	out := &n.g.out
	n.pos = max(n.pos, out.base)
	switch {
	case n.err != nil:
		n.wakeLocked() // for another reader
		return 0, n.err
	case n.pos < out.end():
		k := copy(p, out.data[n.pos-out.base:])
		n.pos += uint64(k)
		return k, nil
	case n.g.ended:
		n.wakeLocked()
		return 0, io.EOF
	}
	return 0, nil
}

// Write gives the guest input, and runs it.
func (n *console) Write(p []byte) (int, error) {
	n.c.h.mu.Lock()
	defer n.c.h.unlock()
	switch {
	case n.err != nil:
		return 0, n.err
	case n.g.ended:
		return 0, fmt.Errorf("%w: the domain has stopped", io.ErrClosedPipe)
	}
	n.g.inputLocked(p)
	return len(p), nil
}

// Close ends the console and a Read that waits.
func (n *console) Close() error {
	n.c.h.mu.Lock()
	defer n.c.h.unlock()
	n.failLocked(errConsoleClosed)
	return nil
}
