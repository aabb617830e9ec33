package conformance_test

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/polyvisor/polyvisor"
)

var vsockFaults = []fault{
	{name: "a byte is lost in a socket", of: "vsock/dial", says: "bytes came back, want the 262144", conn: func(c net.Conn) net.Conn { return &lossy{Conn: c} }},
	{name: "the guest's address is not told", of: "vsock/dial", says: "the connection leads to", conn: func(c net.Conn) net.Conn { return &nameless{c} }},
	{name: "a socket closes in both directions", of: "vsock/dial", says: "read to the end", conn: func(c net.Conn) net.Conn { return &blunt{c} }},
	{name: "a refused socket is a plain error", of: "vsock/refused", says: "dial a port that nothing listens on", op: instead("dial vsock", polyvisor.ErrNotFound, errPlain)},
	{name: "a second listener is let in", of: "vsock/listen", says: "a second listener: succeeded",
		op: on("listen vsock", func(c *call, next func() error) error {
			err := next()
			if !errors.Is(err, polyvisor.ErrBusy) {
				return err
			}
			l, err := c.inst.(polyvisor.Vsocker).ListenVsock(c.ctx, *c.port+1000)
			c.listener = l
			return err
		})},
	{name: "what the guest sends is cut", of: "vsock/listen", says: `the guest sent "the first of tw"`, listener: func(l net.Listener) net.Listener { return &shortening{l} }},
	{name: "a domain without a socket device listens", of: "vsock/ends", says: "without a socket device: succeeded",
		op: on("listen vsock", func(c *call, next func() error) error {
			err := next()
			if errors.Is(err, polyvisor.ErrInvalidConfig) {
				c.listener, err = net.Listen("tcp", "127.0.0.1:0")
				if err == nil {
					c.d.h.atEnd(func() { _ = c.listener.Close() })
				}
			}
			return err
		})},
	{name: "a listener outlives its domain", of: "vsock/ends", says: "after the end of the domain Accept goes on",
		listener: func(l net.Listener) net.Listener { return newLasting(l) }},
	{name: "a listener's end is a plain error", of: "vsock/ends", says: "Accept gives something went wrong", listener: func(l net.Listener) net.Listener { return &vague{l} }},
}

// lossy loses the first byte that is read.
type lossy struct {
	net.Conn
	lost bool
}

func (c *lossy) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func (c *lossy) Read(p []byte) (int, error) {
	if !c.lost {
		c.lost = true
		if _, err := io.ReadFull(c.Conn, make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// nameless has no address of its peer.
type nameless struct{ net.Conn }

func (c *nameless) CloseWrite() error    { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }
func (c *nameless) RemoteAddr() net.Addr { return polyvisor.VsockAddr{} }

// blunt closes all at once.
type blunt struct{ net.Conn }

func (c *blunt) CloseWrite() error { return c.Close() }

// shortening takes connections that lose the last byte before the end.
type shortening struct{ net.Listener }

func (l *shortening) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &short{Conn: c}, nil
}

type short struct{ net.Conn }

func (c *short) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return max(n-1, 0), err
}

// lasting goes on with Accept until it is closed.
type lasting struct {
	net.Listener
	ctx    context.Context
	cancel context.CancelFunc
}

func newLasting(l net.Listener) *lasting {
	ctx, cancel := context.WithCancel(context.Background())
	return &lasting{l, ctx, cancel}
}

func (l *lasting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.ctx.Done()
	}
	return c, err
}

func (l *lasting) Close() error {
	l.cancel()
	return l.Listener.Close()
}

// vague gives an error without a class.
type vague struct{ net.Listener }

func (l *vague) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		err = errPlain
	}
	return c, err
}
