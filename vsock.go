package polyvisor

import (
	"context"
	"fmt"
	"net"
)

// VsockAddr is the address of a socket between a guest and its host: Addr of
// the connections of Domain.DialVsock and Domain.ListenVsock.
type VsockAddr struct {
	// CID is the guest's address, or VsockHost.
	CID uint32
	// Port is 0 where it is not known.
	Port uint32
}

// VsockHost is the CID of the host.
const VsockHost = 2

// Network is "vsock".
func (a VsockAddr) Network() string { return "vsock" }

// String is CID:PORT.
func (a VsockAddr) String() string { return fmt.Sprintf("%d:%d", a.CID, a.Port) }

// DialVsock connects to what listens on a port of the guest's socket device
// (Config.Vsock, AF_VSOCK in Linux). It blocks until the guest accepts, refuses
// or ctx ends; a guest that has not come up far enough has not answered yet. It
// does not keep other operations on the domain from going on.
//
// The connection is a stream, has deadlines and a method CloseWrite, ends when
// the domain stops or the guest reboots, and belongs to the caller; closing the
// Conn closes it too.
//
// Errors: ErrNotFound if nothing listens on the port, ErrInvalidConfig if the
// domain has no socket device.
func (d *Domain) DialVsock(ctx context.Context, port uint32) (net.Conn, error) {
	var made *vsockConn
	err := d.socket(ctx, OpDialVsock, port, func(ctx context.Context, v Vsocker) error {
		c, err := v.DialVsock(ctx, port)
		if err != nil {
			return err
		}
		made = &vsockConn{c, owned{conn: d.conn}}
		return d.conn.adopt(made)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// ListenVsock takes the connections that the guest opens to a port of the host
// (CID VsockHost). The listener ends, with an error of Accept that matches
// net.ErrClosed, when the domain stops; a reboot of the guest is not the end. It
// belongs to the caller, as do the connections, which are as those of DialVsock;
// closing the Conn closes all of them.
//
// Errors: ErrBusy if somebody listens on the port for this domain,
// ErrInvalidConfig if the domain has no socket device.
func (d *Domain) ListenVsock(ctx context.Context, port uint32) (net.Listener, error) {
	var made *vsockListener
	err := d.socket(ctx, OpListenVsock, port, func(ctx context.Context, v Vsocker) error {
		l, err := v.ListenVsock(ctx, port)
		if err != nil {
			return err
		}
		made = &vsockListener{l, owned{conn: d.conn}}
		return d.conn.adopt(made)
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// anyPort stands for every port (vsock(7)), so that none can be meant by it.
const anyPort = 1<<32 - 1

// socket is change without the domain's turn: a guest may take its time to
// answer.
func (d *Domain) socket(ctx context.Context, op Op, port uint32, f func(context.Context, Vsocker) error) error {
	return d.conn.call(ctx, string(op), d.Name(), func(ctx context.Context) error {
		v, err := offered[Vsocker](d.conn, d.inst, FeatureVsockStreams)
		if err != nil {
			return err
		}
		if port == anyPort {
			return fmt.Errorf("%w: vsock port %d stands for any port; use a smaller one", ErrInvalidConfig, port)
		}
		if err := d.permitted(op); err != nil {
			return err
		}
		if _, err := d.legal(ctx, op); err != nil {
			return err
		}
		return f(ctx, v)
	})
}

// vsockConn is a connection that the Conn closes with itself.
type vsockConn struct {
	net.Conn
	owned
}

// CloseWrite ends the stream towards the guest, which may still send.
func (c *vsockConn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%w: the driver's connections cannot be closed in one direction", ErrUnsupported)
	}
	return w.CloseWrite()
}

func (c *vsockConn) Close() error { return c.close(c, c.Conn) }

// vsockListener is a listener that the Conn closes with itself.
type vsockListener struct {
	net.Listener
	owned
}

func (l *vsockListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	made := &vsockConn{c, owned{conn: l.conn}}
	if err := l.conn.adopt(made); err != nil {
		return nil, err
	}
	return made, nil
}

func (l *vsockListener) Close() error { return l.close(l, l.Listener) }
