package rpc

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Client. The zero value is usable.
type Options struct {
	// Event gets each event (a frame of type message) of the remote, qemu and
	// lxc programs that no Bridge asked for, one at a time in the order of
	// arrival. It is called by whoever reads the connection, which may be the
	// caller of a call: it must return without waiting, and must not call the
	// Client, except to start goroutines that do. The payload is valid until
	// it returns.
	Event func(program, procedure uint32, payload []byte)

	// KeepAlive starts keepalive at once; see Client.KeepAlive. Zero: not.
	KeepAlive      time.Duration
	KeepAliveCount int

	// StreamQueue bounds the bytes a stream holds for its reader; one frame
	// is taken whatever its size. Zero: 1 MiB.
	StreamQueue int

	// PauseStreams says what happens when a stream's queue is full. False:
	// the stream fails with ErrStreamOverflow and everything else goes on.
	// True: nothing is read from the connection until there is room, as is
	// right when it carries this stream alone; calls wait meanwhile, and
	// keepalive does not count.
	PauseStreams bool
}

// entry is what waits for frames with a serial. Its methods are called by the
// reading goroutine, lost by whoever ends the connection; none waits, but for a
// stream with PauseStreams.
type entry interface {
	// matches tells whether a frame of this program and procedure can be
	// meant for the entry.
	matches(h Header) bool
	// reply is called for a frame of type reply; the entry has left the table
	// if it does not ask to stay. The payload is valid until it returns,
	// unless owned: then it may be kept.
	reply(h Header, payload []byte, owned bool) error
	// stays tells whether the entry remains in the table after its reply.
	// Called with Client.mu held.
	stays(h Header) bool
	// stream is called for a frame of type stream.
	stream(h Header, payload []byte, owned bool) error
	// lost is called once, when the connection has ended.
	lost(err error)
}

// Client is one connection to a libvirt daemon. Its methods are safe for
// concurrent use.
type Client struct {
	conn net.Conn
	opt  Options
	in   inbox
	out  outbox

	// calls are for reuse. Not shared between clients: a channel of one made
	// in a bubble of testing/synctest is not for use outside of it.
	calls sync.Pool

	start    time.Time
	lastRead atomic.Int64 // when bytes came last, nanoseconds since start
	paused   atomic.Bool  // the reading goroutine waits for a stream's reader

	mu      sync.Mutex
	waiting map[uint32]entry
	serial  uint32 // of the last call
	wrapped bool   // serials have been all through 32 bits
	err     error  // why it ended
	orphans int    // streams whose opening was abandoned
	bridges map[*bridge]struct{}
	claims  map[claim]*bridge // events that bridges asked for
	claimed atomic.Bool       // there were claims

	keepAlive keepAlive
	done      chan struct{}
	wg        sync.WaitGroup
}

// New makes a client of a connection on which nothing has been sent yet, or
// after which the next byte begins a frame. The client owns conn from now on,
// and closes it when the connection fails or Close is called. Authentication
// and opening are calls like any other, and the caller's to make.
func New(conn net.Conn, o Options) *Client {
	if o.StreamQueue <= 0 {
		o.StreamQueue = 1 << 20
	}
	if !o.PauseStreams {
		conn = ownSocket(conn)
	}
	c := &Client{
		conn:    conn,
		opt:     o,
		start:   time.Now(),
		waiting: map[uint32]entry{},
		bridges: map[*bridge]struct{}{},
		claims:  map[claim]*bridge{},
		done:    make(chan struct{}),
	}
	conn.SetDeadline(time.Time{}) // one left from dialling would end the connection later
	c.out.init(c)
	// On a kernel's socket reading can be interrupted without harm. A stream
	// that pauses must not pause a caller.
	c.in.init(c, c.out.try != nil && !o.PauseStreams)
	c.wg.Go(c.in.run)
	c.wg.Go(c.out.run)
	if o.KeepAlive > 0 {
		c.KeepAlive(o.KeepAlive, o.KeepAliveCount)
	}
	return c
}

// Done is closed when the connection has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err tells why the connection ended: ErrClosed after Close, else an error that
// wraps ErrLost and the cause. It is nil while the connection works.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection; calls and streams fail with ErrClosed. It returns
// when all goroutines of the client have ended. It must not be called from
// Options.Event. The error is always nil.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	c.wg.Wait()
	return nil
}

// fail ends the connection for this cause. Only the first one counts.
func (c *Client) fail(cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	err := lost(cause)
	c.err = err
	entries, bridges := c.waiting, c.bridges
	c.waiting, c.bridges = nil, nil
	c.mu.Unlock()

	close(c.done)
	for _, e := range entries {
		e.lost(err)
	}
	for b := range bridges {
		b.close()
	}
	// Last, as it may take its time (TLS says goodbye).
	c.conn.Close()
}

// register gives e a serial and puts it into the table.
func (c *Client) register(e entry) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	for {
		c.serial++
		if c.serial == 0 {
			c.wrapped = true
			continue
		}
		if c.wrapped {
			if _, used := c.waiting[c.serial]; used {
				continue
			}
		}
		break
	}
	c.waiting[c.serial] = e
	return c.serial, nil
}

// unregister takes an entry out of the table. False: it was not there any more.
func (c *Client) unregister(serial uint32, e entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[serial] != e {
		return false
	}
	delete(c.waiting, serial)
	return true
}

// idle tells whether no call or stream is under way.
func (c *Client) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) == 0
}

// lastSerial is the serial of the last call.
func (c *Client) lastSerial() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serial
}

// others tells whether more than one call or stream is under way.
func (c *Client) others() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting) > 1
}

// find looks an entry up for a frame from the server. Nil without an error:
// the caller has gone, the frame is to be dropped.
func (c *Client) find(h Header, isReply bool) (entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.waiting[h.Serial]
	if !ok {
		if c.err == nil && (h.Serial == 0 || h.Serial > c.serial && !c.wrapped) {
			return nil, fmt.Errorf("%w: %s answers a call that was never made", ErrProtocol, h)
		}
		return nil, nil
	}
	if !e.matches(h) {
		return nil, fmt.Errorf("%w: %s answers a call of another procedure", ErrProtocol, h)
	}
	if isReply && !e.stays(h) {
		delete(c.waiting, h.Serial)
	}
	return e, nil
}
