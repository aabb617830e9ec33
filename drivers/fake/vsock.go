package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/polyvisor/polyvisor"
)

// firstVsockPort is where the numbers of host programs that connect begin.
const firstVsockPort = 1 << 30

// backlog is how many connections of the guest wait to be accepted.
const backlog = 128

// sockets are those of a guest, and the commands that it was given by them, under Hypervisor.mu. They end with the run, and all but the listeners with a reboot.
type sockets struct {
	serves    map[uint32]struct{} // ports on which a program of the guest waits
	listeners map[uint32]*vsockListener
	open      map[*vsockConn]struct{}
	dialed    uint32
	commands  map[*process]struct{}
	started   int
}

func (s *sockets) closeAllLocked() {
	for c := range s.open {
		c.cut()
	}
	for p := range s.commands {
		p.lose()
	}
	s.open, s.serves, s.commands = nil, nil, nil
}

func (s *sockets) endLocked() {
	s.closeAllLocked()
	for _, l := range s.listeners {
		l.endLocked()
	}
	s.listeners = nil
}

// vsockConn is one end of a connection: a pipe in each direction.
type vsockConn struct {
	in, out       net.Conn
	local, remote polyvisor.VsockAddr
	h             *Hypervisor
	g             *guest
	other         *vsockConn
}

// connectLocked makes a connection of the guest, and gives the host's end and the guest's.
func (g *guest) connectLocked(host, port uint32) (*vsockConn, *vsockConn) {
	hostAddr := polyvisor.VsockAddr{CID: polyvisor.VsockHost, Port: host}
	guestAddr := polyvisor.VsockAddr{CID: g.r.config.Vsock.CID, Port: port}
	a, b := net.Pipe()
	c, d := net.Pipe()
	ours := &vsockConn{in: a, out: c, local: hostAddr, remote: guestAddr, h: g.r.d.h, g: g}
	theirs := &vsockConn{in: d, out: b, local: guestAddr, remote: hostAddr, h: g.r.d.h, g: g, other: ours}
	ours.other = theirs
	if g.sockets.open == nil {
		g.sockets.open = map[*vsockConn]struct{}{}
	}
	g.sockets.open[ours] = struct{}{}
	return ours, theirs
}

func (c *vsockConn) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *vsockConn) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *vsockConn) LocalAddr() net.Addr         { return c.local }
func (c *vsockConn) RemoteAddr() net.Addr        { return c.remote }
func (c *vsockConn) CloseWrite() error           { return c.out.Close() }

func (c *vsockConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *vsockConn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *vsockConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

func (c *vsockConn) Close() error {
	c.h.mu.Lock()
	delete(c.g.sockets.open, c)
	c.h.unlock()
	return errors.Join(c.in.Close(), c.out.Close())
}

// cut ends the connection as the end of the guest does.
func (c *vsockConn) cut() {
	_ = c.other.in.Close()
	_ = c.other.out.Close()
}

// vsockDemandLocked checks that the domain has a guest with sockets.
func vsockDemandLocked(d *domain, op polyvisor.Op) (*guest, error) {
	if err := d.demandLocked(op); err != nil {
		return nil, err
	}
	if d.run.config.Vsock == nil {
		return nil, fmt.Errorf("%w: the domain has no socket device; set vsock in its configuration and start it again", polyvisor.ErrInvalidConfig)
	}
	return d.run.guestLocked(), nil
}

// whenItRuns calls f under the lock as soon as the guest may run: one that is paused does not
// answer.
func (i *instance) whenItRuns(ctx context.Context, op operation, o polyvisor.Op, f func(g *guest) error) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		ran := false
		err := i.do(ctx, op, func(d *domain) error {
			g, err := vsockDemandLocked(d, o)
			if err != nil || !d.run.canRunLocked() {
				return err
			}
			ran = true
			return f(g)
		})
		if err != nil || ran {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DialVsock connects to a program of the guest.
func (i *instance) DialVsock(ctx context.Context, port uint32) (conn net.Conn, err error) {
	err = i.whenItRuns(ctx, opDialVsock, polyvisor.OpDialVsock, func(g *guest) error {
		if _, ok := g.sockets.serves[port]; !ok {
			return fmt.Errorf("%w: nothing listens on vsock port %d of the guest: %w", polyvisor.ErrNotFound, port, syscall.ECONNREFUSED)
		}
		delete(g.sockets.serves, port)
		ours, theirs := g.connectLocked(firstVsockPort+g.sockets.dialed, port)
		g.sockets.dialed++
		conn = ours
		go g.giveBack(theirs)
		return nil
	})
	if err != nil && conn != nil { // the answer was lost
		_ = conn.Close()
		conn = nil
	}
	return conn, err
}

// giveBack is the guest's program that sends back what it is sent.
func (g *guest) giveBack(c *vsockConn) {
	n, err := io.Copy(c.out, c.in)
	_ = c.out.Close()
	_ = c.in.Close()
	if err == nil {
		g.saysLater(fmt.Sprintf("echoed %d\n", n))
	}
}

// saysLater prints what a program of the guest says, if the guest is still there.
func (g *guest) saysLater(text string) {
	h := g.r.d.h
	h.mu.Lock()
	defer h.unlock()
	if g.r.guest == g && !g.ended {
		g.print(text)
	}
}

// doServe lets a program wait for one connection.
func (g *guest) doServe(args string) {
	port, err := strconv.ParseUint(args, 10, 32)
	switch {
	case err != nil:
		g.printf("error: not a port: %s\n", args)
	case g.r.config.Vsock == nil:
		g.print("error: no socket device\n")
	default:
		if g.sockets.serves == nil {
			g.sockets.serves = map[uint32]struct{}{}
		}
		g.sockets.serves[uint32(port)] = struct{}{}
		g.print("listening\n")
	}
}

// doVsockSend sends a text to a port of the host and prints the answer.
func (g *guest) doVsockSend(args string) {
	number, text, _ := strings.Cut(args, " ")
	port, err := strconv.ParseUint(number, 10, 32)
	l := g.sockets.listeners[uint32(port)]
	if err != nil || g.r.config.Vsock == nil || l == nil || len(l.queue) == cap(l.queue) {
		g.printf("error: port %s of the host: connection reset by peer\n", number)
		return
	}
	ours, theirs := g.connectLocked(uint32(port), firstVsockPort)
	l.queue <- ours
	go func() {
		_, err := io.WriteString(theirs.out, text)
		_ = theirs.out.Close()
		answer, rerr := io.ReadAll(theirs.in)
		_ = theirs.in.Close()
		if errors.Join(err, rerr) == nil {
			g.saysLater("answered " + string(answer) + "\n")
		}
	}()
}

// ListenVsock takes the guest's connections to a port.
func (i *instance) ListenVsock(ctx context.Context, port uint32) (l net.Listener, err error) {
	err = i.do(ctx, opListenVsock, func(d *domain) error {
		g, err := vsockDemandLocked(d, polyvisor.OpListenVsock)
		if err != nil {
			return err
		}
		if g.sockets.listeners[port] != nil {
			return fmt.Errorf("%w: somebody listens on vsock port %d for this domain; close that listener first", polyvisor.ErrBusy, port)
		}
		made := &vsockListener{h: d.h, g: g, port: port, queue: make(chan *vsockConn, backlog), ended: make(chan struct{})}
		if g.sockets.listeners == nil {
			g.sockets.listeners = map[uint32]*vsockListener{}
		}
		g.sockets.listeners[port] = made
		l = made
		return nil
	})
	if err != nil && l != nil {
		_ = l.Close()
		l = nil
	}
	return l, err
}

// vsockListener waits for the guest.
type vsockListener struct {
	h     *Hypervisor
	g     *guest
	port  uint32
	queue chan *vsockConn
	ended chan struct{}
	once  sync.Once
}

func (l *vsockListener) Addr() net.Addr {
	return polyvisor.VsockAddr{CID: polyvisor.VsockHost, Port: l.port}
}

func (l *vsockListener) Accept() (net.Conn, error) {
	select {
	case <-l.ended: // before what has come
		return nil, fmt.Errorf("vsock port %d: %w", l.port, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.ended:
		return nil, fmt.Errorf("vsock port %d: %w", l.port, net.ErrClosed)
	}
}

func (l *vsockListener) Close() error {
	l.h.mu.Lock()
	defer l.h.unlock()
	if l.g.sockets.listeners[l.port] == l {
		delete(l.g.sockets.listeners, l.port)
	}
	l.endLocked()
	return nil
}

func (l *vsockListener) endLocked() {
	l.once.Do(func() {
		close(l.ended)
		for {
			select {
			case c := <-l.queue:
				delete(l.g.sockets.open, c)
				c.cut()
				_ = c.in.Close()
				_ = c.out.Close()
			default:
				return
			}
		}
	})
}
