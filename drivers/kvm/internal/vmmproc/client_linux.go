package vmmproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/store"
)

// Client is a connection to the control socket of a VM process. It is safe for
// concurrent use; any number of calls may be under way. It has no goroutine: the
// callers that wait for an answer take turns at reading.
//
// When the ctx of a call ends, the call returns ctx's error at once and the
// request is taken back; the client stays usable. The operation may have happened
// nevertheless. Only if ctx ends in the middle of sending the request, which
// takes a VM process that does not read, the connection is given up.
//
// Once the VM process has ended, every call gives [ErrGone].
type Client struct {
	dir   string
	hello Hello
	f     *os.File
	turn  chan struct{} // holds one: the right to read
	lines *lineReader   // guarded by turn

	wturn chan struct{} // holds one: the right to write

	mu      sync.Mutex // guards the following
	next    uint64
	pending map[uint64]chan reply
	// abandoned are requests whose callers have gone and that are yet to be
	// taken back.
	abandoned []uint64
	err       error // why the connection is of no use any more
}

// Dial connects to the VM process of the domain whose run directory is dir. If
// there is none, the error matches [ErrGone]; while it is being started, it
// matches [ErrNotReady].
func Dial(ctx context.Context, dir string) (*Client, error) {
	f, err := connect(ctx, dir, store.SocketName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, serr := os.Lstat(dir); serr == nil {
			return nil, &Error{CodeNotReady, fmt.Sprintf("the VM process of %s is being started, or died while it was", dir)}
		}
		return nil, goneError(dir)
	case errors.Is(err, unix.ECONNREFUSED):
		return nil, goneError(dir)
	case err != nil:
		return nil, fmt.Errorf("connect to the VM process of %s: %w", dir, err)
	}
	c := newClient(f, dir)
	if err := c.call(ctx, opHello, helloArgs{[]int{Version}}, &c.hello); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func goneError(dir string) error {
	return &Error{CodeGone, fmt.Sprintf("the VM process of %s has ended", dir)}
}

func newClient(f *os.File, dir string) *Client {
	return &Client{
		dir: dir, f: f, lines: newLineReader(f, MaxLine), pending: map[uint64]chan reply{},
		turn: make(chan struct{}, 1), wturn: make(chan struct{}, 1),
	}
}

// Close ends the connection; calls that are under way fail with os.ErrClosed.
func (c *Client) Close() error {
	_ = c.fail(os.ErrClosed)
	return nil
}

// Hello is what the VM process said about itself.
func (c *Client) Hello() Hello { return c.hello }

// Info gives a snapshot of the machine.
func (c *Client) Info(ctx context.Context) (Status, error) {
	var st Status
	err := c.call(ctx, opInfo, nil, &st)
	return st, err
}

// Suspend stops the vCPUs.
func (c *Client) Suspend(ctx context.Context) error { return c.call(ctx, opSuspend, nil, nil) }

// Resume lets them run again.
func (c *Client) Resume(ctx context.Context) error { return c.call(ctx, opResume, nil, nil) }

// Shutdown presses the power button. It does not wait for the guest.
func (c *Client) Shutdown(ctx context.Context) error { return c.call(ctx, opShutdown, nil, nil) }

// Reboot presses the power button; when the guest has then powered off, it is
// started again. It does not wait for that. A later Shutdown takes it back.
func (c *Client) Reboot(ctx context.Context) error { return c.call(ctx, opReboot, nil, nil) }

// Reset resets the machine without asking the guest.
func (c *Client) Reset(ctx context.Context) error { return c.call(ctx, opReset, nil, nil) }

// Destroy ends the run without asking the guest and returns when all of it is
// gone.
func (c *Client) Destroy(ctx context.Context) (Stop, error) {
	var s Stop
	err := c.call(ctx, opDestroy, nil, &s)
	return s, err
}

// Wait returns how the run ended, when all of it is gone: the stop record is
// written, the domain can be started again.
func (c *Client) Wait(ctx context.Context) (Stop, error) {
	var s Stop
	err := c.call(ctx, opWait, nil, &s)
	return s, err
}

// Follow is Wait that calls registered as soon as the VM process knows of the
// wait: from then on the end of the run is told, however soon it comes.
// registered is called once, at the latest before Follow returns.
func (c *Client) Follow(ctx context.Context, registered func()) (Stop, error) {
	registered = sync.OnceFunc(registered)
	defer registered()
	req, got, err := c.begin(ctx, opWait, nil)
	if err != nil {
		return Stop{}, err
	}
	// The VM process takes the requests of a connection in order, so its answer
	// to this one proves that it has taken the wait. An error is that of the
	// connection, or the end of the run: the wait tells.
	if _, err := c.Info(ctx); err == nil {
		registered()
	}
	var s Stop
	err = c.finish(ctx, req, got, &s)
	return s, err
}

// call sends a request and waits for its answer. result may be nil.
func (c *Client) call(ctx context.Context, op string, args, result any) error {
	req, got, err := c.begin(ctx, op, args)
	if err != nil {
		return err
	}
	return c.finish(ctx, req, got, result)
}

// settlePatience is how long a VM process that was told to stop writing may take to say what came of it.
const settlePatience = 2 * time.Second

// settled is call for what leaves something behind. When ctx ends the VM process is told to stop, and its last word is waited
// for, a while: what has succeeded all the same is no error.
func (c *Client) settled(ctx context.Context, op string, args any) error {
	req, got, err := c.begin(ctx, op, args)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		c.abandon(req)
		select {
		case <-inner.Done():
		case <-time.After(settlePatience):
			cancel(context.Cause(ctx))
		}
	})
	err = c.finish(inner, req, got, nil)
	if stop() {
		return err
	}
	cancel(nil)
	<-over
	if err != nil {
		return context.Cause(ctx)
	}
	return nil
}

// begin sends a request.
func (c *Client) begin(ctx context.Context, op string, args any) (request, chan reply, error) {
	if err := ctx.Err(); err != nil {
		return request{}, nil, context.Cause(ctx)
	}
	req := request{Op: op}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return request{}, nil, err
		}
		req.Args = b
	}
	got := make(chan reply, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return request{}, nil, c.err
	}
	c.next++
	req.ID = c.next
	c.pending[req.ID] = got
	c.mu.Unlock()
	if err := c.send(ctx, req); err != nil {
		c.forget(req.ID)
		return request{}, nil, err
	}
	return req, got, nil
}

// finish waits for the answer to a request.
func (c *Client) finish(ctx context.Context, req request, got chan reply, result any) error {
	r, err := c.await(ctx, req, got)
	if err != nil {
		return err
	}
	if r.Error != nil {
		return r.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return &Error{CodeProtocol, fmt.Sprintf("%s: malformed result of the VM process: %v", req.Op, err)}
	}
	return nil
}

func (c *Client) await(ctx context.Context, req request, got chan reply) (reply, error) {
	for {
		select {
		case r := <-got: // first, whatever else there is to do
			return r, nil
		default:
		}
		select {
		case r := <-got:
			return r, nil
		case <-ctx.Done():
			c.takeBack(req)
			return reply{}, context.Cause(ctx)
		case c.turn <- struct{}{}:
		}
		// It is this call's turn to read, for all.
		err := c.readOne(ctx, got)
		<-c.turn
		switch {
		case err == nil:
		case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
			c.takeBack(req)
			return reply{}, err
		default:
			return reply{}, c.fail(err)
		}
	}
}

// readOne reads one reply and hands it to the call it belongs to, unless the
// answer to the reader's own call has come meanwhile.
func (c *Client) readOne(ctx context.Context, own chan reply) error {
	if len(own) > 0 {
		return nil
	}
	done := within(ctx, c.f.SetReadDeadline)
	line, err := c.lines.next()
	if err := done(err); err != nil {
		return err
	}
	r, err := parseReply(line)
	if err != nil {
		return err
	}
	if r.ID == 0 {
		if r.Error == nil {
			return &Error{CodeProtocol, "the VM process answered a request that was not made"}
		}
		return r.Error // it is about to hang up, and says why
	}
	c.mu.Lock()
	got := c.pending[r.ID]
	delete(c.pending, r.ID)
	c.mu.Unlock()
	if got != nil { // else it was taken back
		got <- r
	}
	return nil
}

// send writes a request, after those that take abandoned ones back.
func (c *Client) send(ctx context.Context, req request) error {
	line, err := encodeLine(req, MaxLine)
	if err != nil {
		return err
	}
	return c.write(ctx, line)
}

func (c *Client) write(ctx context.Context, line []byte) error {
	select {
	case c.wturn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.wturn }()
	c.mu.Lock()
	abandoned := c.abandoned
	c.abandoned = nil
	first := c.next + 1
	c.next += uint64(len(abandoned))
	c.mu.Unlock()
	var out []byte
	for i, id := range abandoned {
		// The answers, to both requests, are skipped by whoever reads next.
		out = fmt.Appendf(out, `{"id":%d,"op":%q,"args":{"id":%d}}`+"\n", first+uint64(i), opCancel, id)
	}
	out = append(out, line...)
	done := within(ctx, c.f.SetWriteDeadline)
	n, err := c.f.Write(out)
	if err := done(err); err != nil {
		if n == 0 && ctx.Err() != nil {
			c.mu.Lock()
			c.abandoned = append(c.abandoned, abandoned...)
			c.mu.Unlock()
			return context.Cause(ctx)
		}
		if !errors.Is(err, unix.EPIPE) {
			return c.fail(fmt.Errorf("the VM process of %s does not read its control connection: %w", c.dir, err))
		}
		// The server has hung up. It may have said why, or have answered other
		// calls: whoever reads next comes to the end.
	}
	return nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// takeBack tells the server that nobody waits for an answer any more, now or, if
// the server is slow to read, with the next request.
func (c *Client) takeBack(req request) {
	c.forget(req.ID)
	c.abandon(req)
}

// abandon has the server end the work on a request.
func (c *Client) abandon(req request) {
	c.mu.Lock()
	c.abandoned = append(c.abandoned, req.ID)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), takeBackTimeout)
	defer cancel()
	_ = c.write(ctx, nil)
}

// takeBackTimeout bounds how long an abandoned call waits for a VM process that
// does not read.
const takeBackTimeout = 100 * time.Millisecond

// fail makes the connection unusable. It gives the error with which all calls
// fail: that of the first failure.
func (c *Client) fail(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
		err = goneError(c.dir)
		collectOrphans()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.f.Close()
	return c.err
}
