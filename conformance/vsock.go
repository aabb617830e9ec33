package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// vsockPort is the first port that the cases use.
const vsockPort = 7000

func vsockCases() []Case {
	streams := []polyvisor.Feature{polyvisor.FeatureVsock, polyvisor.FeatureVsockStreams}
	talking := append(streams[:2:2], polyvisor.FeatureConsole)
	return []Case{
		{
			Name: "vsock/dial", Features: talking, Talks: true, Words: []string{"VsockServe"},
			Rule: "DialVsock reaches the program that listens on a port of the guest. What it is sent comes back byte for byte, also what is under way when the host closes its direction, and then the stream ends. The addresses of the connection are the guest's CID and port, and the host's.",
			Run:  vsockDial,
		},
		{
			Name: "vsock/refused", Features: talking, Talks: true, Words: []string{"VsockServe"},
			Rule: "A port on which nothing listens is ErrNotFound, and so is that of a program that has ended.",
			Run:  vsockRefused,
		},
		{
			Name: "vsock/listen", Features: talking, Talks: true, Words: []string{"VsockSend"},
			Rule: "ListenVsock takes what the guest connects to that port of the host, both ways. A second listener on the port is ErrBusy and takes nothing; the port is free again once the listener is closed.",
			Run:  vsockListen,
		},
		{
			Name: "vsock/ends", Features: streams,
			Rule: "A domain without a socket device has no sockets: ErrInvalidConfig. Closing a listener ends an Accept under way, and so do the end of the domain and the closing of the connection, all with an error that matches net.ErrClosed.",
			Run:  vsockEnds,
		},
	}
}

func withVsock(cfg *polyvisor.Config) { cfg.Vsock = &polyvisor.VsockConfig{} }

func vsockDial(c *C) {
	d := c.started("served", withVsock)
	t := c.talk(d)
	conn := c.dialed(t, d, vsockPort)
	defer conn.Close()
	cid := c.configOf(d).Vsock.CID
	c.check(cid >= 3, "the domain that runs has the CID %d", cid)
	want := polyvisor.VsockAddr{CID: cid, Port: vsockPort}
	c.check(conn.RemoteAddr() == want, "the connection leads to %v, want %v", conn.RemoteAddr(), want)
	host, ok := conn.LocalAddr().(polyvisor.VsockAddr)
	c.check(ok && host.CID == polyvisor.VsockHost, "the connection comes from %v, want CID %d", conn.LocalAddr(), polyvisor.VsockHost)

	text := strings.Repeat("0123456789abcdef", 16<<10)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, text)
		if w, ok := conn.(interface{ CloseWrite() error }); !ok {
			err = errors.Join(err, errors.New("the connection has no CloseWrite"))
		} else {
			err = errors.Join(err, w.CloseWrite())
		}
		sent <- err
	}()
	got, err := io.ReadAll(conn)
	c.ok(err, "read to the end")
	c.ok(<-sent, "send")
	c.check(string(got) == text, "%d bytes came back, want the %d that were sent", len(got), len(text))
	t.await("echoed 262144")
}

// dialed has the guest listen on a port and connects to it.
func (c *C) dialed(t *talk, d *polyvisor.Domain, port uint32) net.Conn {
	t.send(fmt.Sprintf("%s %d", c.h.Guest.VsockServe, port))
	t.await("listening")
	conn, err := d.DialVsock(c.ctx, port)
	c.ok(err, "dial port %d of the guest", port)
	if limit, ok := c.ctx.Deadline(); ok {
		c.ok(conn.SetDeadline(limit), "set a deadline")
	}
	return conn
}

func vsockRefused(c *C) {
	d := c.started("served", withVsock)
	t := c.talk(d)
	_, err := d.DialVsock(c.ctx, vsockPort)
	c.fails(err, "dial a port that nothing listens on", polyvisor.CodeNotFound)
	conn := c.dialed(t, d, vsockPort)
	c.ok(conn.Close(), "close the connection")
	t.await("echoed 0")
	_, err = d.DialVsock(c.ctx, vsockPort)
	c.fails(err, "dial the port of a program that has ended", polyvisor.CodeNotFound)
}

func vsockListen(c *C) {
	d := c.started("calling", withVsock)
	t := c.talk(d)
	for _, text := range []string{"the first of two", "the second of two"} {
		l, err := d.ListenVsock(c.ctx, vsockPort)
		c.ok(err, "listen on port %d of the host", vsockPort)
		c.cleanup("closing a listener", func() { _ = l.Close() })
		_, err = d.ListenVsock(c.ctx, vsockPort)
		c.fails(err, "a second listener", polyvisor.CodeBusy)
		t.send(fmt.Sprintf("%s %d %s", c.h.Guest.VsockSend, vsockPort, text))
		conn := c.accepted(l)
		got, err := io.ReadAll(conn)
		c.ok(err, "read what the guest sends")
		c.check(string(got) == text, "the guest sent %q, want %q", got, text)
		_, err = io.WriteString(conn, "answer to "+text)
		c.ok(err, "answer")
		c.ok(conn.Close(), "close the connection")
		t.await("answered answer to " + text)
		c.ok(l.Close(), "close the listener")
	}
}

// accepted waits for a connection of the guest.
func (c *C) accepted(l net.Listener) net.Conn {
	type result struct {
		conn net.Conn
		err  error
	}
	got := make(chan result, 1)
	go func() {
		conn, err := l.Accept()
		got <- result{conn, err}
	}()
	select {
	case r := <-got:
		c.ok(r.err, "accept a connection of the guest")
		if limit, ok := c.ctx.Deadline(); ok {
			c.ok(r.conn.SetDeadline(limit), "set a deadline")
		}
		return r.conn
	case <-c.ctx.Done():
		_ = l.Close()
		c.Fatalf("no connection of the guest comes")
		return nil
	}
}

func vsockEnds(c *C) {
	plain := c.started("plain")
	_, err := plain.ListenVsock(c.ctx, vsockPort)
	c.fails(err, "listen for a domain without a socket device", polyvisor.CodeInvalidConfig)
	_, err = plain.DialVsock(c.ctx, vsockPort)
	c.fails(err, "dial a domain without a socket device", polyvisor.CodeInvalidConfig)

	d := c.started("ending", withVsock)
	other, err := c.Open().Domain(c.ctx, d.Name())
	c.ok(err, "look the domain up")
	for _, end := range []struct {
		what string
		of   *polyvisor.Domain
		by   func(l net.Listener) error
	}{
		{"the closing of the listener", d, func(l net.Listener) error { return l.Close() }},
		{"the closing of its connection", other, func(net.Listener) error { return other.Conn().Close() }},
		{"the end of the domain", d, func(net.Listener) error { return d.Destroy(c.ctx) }},
	} {
		l, err := end.of.ListenVsock(c.ctx, vsockPort)
		c.ok(err, "listen before %s", end.what)
		c.cleanup("closing a listener", func() { _ = l.Close() })
		ended := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_ = conn.Close()
			}
			ended <- err
		}()
		time.Sleep(5 * time.Millisecond) // Accept is under way, more often than not
		c.ok(end.by(l), "%s", end.what)
		select {
		case err := <-ended:
			c.check(errors.Is(err, net.ErrClosed), "after %s Accept gives %v, want net.ErrClosed", end.what, err)
		case <-c.soon(2 * time.Second).Done():
			c.Errorf("after %s Accept goes on", end.what)
			_ = l.Close()
		}
	}
	_, err = d.DialVsock(context.WithoutCancel(c.ctx), vsockPort)
	c.fails(err, "dial a domain that has ended", polyvisor.CodeInvalidState)
}
