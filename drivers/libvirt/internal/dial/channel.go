package dial

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// channel is an ssh channel as a connection, with the ssh connection that it is
// the only user of.
type channel struct {
	client *ssh.Client
	raw    net.Conn
	ch     ssh.Channel
	name   string

	command bool
	stderr  tail
	exit    error         // of the command; valid once exited is closed
	exited  chan struct{} // closed when the command has ended and all it said was read
	workers sync.WaitGroup

	mu     sync.Mutex
	closed bool
	gone   chan struct{} // closed when Close has done its work
}

// newChannel owns all it is given. reqs are the requests of a command's session,
// nil for a socket.
func newChannel(client *ssh.Client, raw net.Conn, ch ssh.Channel, reqs <-chan *ssh.Request, name string) *channel {
	c := &channel{client: client, raw: raw, ch: ch, name: name, command: reqs != nil,
		exited: make(chan struct{}), gone: make(chan struct{})}
	said := make(chan struct{})
	c.workers.Go(func() {
		defer close(said)
		io.Copy(&c.stderr, ch.Stderr()) // read, or the command could block
	})
	if c.command {
		c.workers.Go(func() {
			c.watch(reqs)
			<-said
			close(c.exited)
		})
	}
	return c
}

// watch reads how the command ended (RFC 4254, 6.10).
func (c *channel) watch(reqs <-chan *ssh.Request) {
	for r := range reqs {
		switch r.Type {
		case "exit-status":
			var status struct{ Code uint32 }
			if ssh.Unmarshal(r.Payload, &status) == nil && status.Code != 0 {
				c.exit = fmt.Errorf("exit status %d", status.Code)
			}
		case "exit-signal":
			var sig struct {
				Name string
				Core bool
				Text string
				Lang string
			}
			if ssh.Unmarshal(r.Payload, &sig) == nil {
				c.exit = fmt.Errorf("signal %s", clean(limit(sig.Name)))
			}
		}
		if r.WantReply {
			r.Reply(false, nil)
		}
	}
}

func (c *channel) Read(b []byte) (int, error) {
	n, err := c.ch.Read(b)
	return n, c.why(err)
}

func (c *channel) Write(b []byte) (int, error) {
	n, err := c.ch.Write(b)
	return n, c.why(err)
}

func (c *channel) why(err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return net.ErrClosed
	case !c.command:
		if errors.Is(err, io.EOF) {
			return err
		}
		return fail(ErrUnreachable, "%s: %w", c.name, err)
	}
	timer := time.NewTimer(exitWait)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C:
		return fail(ErrUnreachable, "%s closed the connection: %w", c.name, err)
	}
	return ended(c.name, c.exit, c.stderr.String(), err)
}

func (c *channel) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if first {
		closeClient(c.client, c.raw)
		c.workers.Wait()
		close(c.gone)
	}
	<-c.gone
	return nil
}

func (c *channel) LocalAddr() net.Addr  { return c.raw.LocalAddr() }
func (c *channel) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// An ssh channel has no deadlines; Close interrupts.

func (c *channel) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *channel) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *channel) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
