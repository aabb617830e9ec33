package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// Client asks the agent of one guest.
type Client struct {
	// Dial connects to the agent.
	Dial func(ctx context.Context) (net.Conn, error)
}

// call is a connection with a request under way.
type call struct {
	*proto.Link
	conn net.Conn
	stop func() bool
	ctx  context.Context
}

// open connects. The end of ctx ends what is done with the connection, until release.
func (c *Client) open(ctx context.Context) (*call, error) {
	conn, err := c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	k := &call{Link: proto.NewLink(conn), conn: conn, ctx: ctx}
	k.stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return k, nil
}

// request sends a request and waits for its answer.
func (k *call) request(r *proto.Request) (*proto.Answer, error) {
	r.Version = proto.Version
	if err := k.Send(proto.TypeRequest, r); err != nil {
		if errors.Is(err, proto.ErrTooLong) {
			return nil, err
		}
		// The agent may have answered before it read all.
		if a, aerr := k.answer(); aerr != nil && isFailure(aerr) {
			return a, aerr
		}
		return nil, k.broken(err)
	}
	return k.answer()
}

func isFailure(err error) bool {
	var f *proto.Failure
	return errors.As(err, &f)
}

func (k *call) answer() (*proto.Answer, error) {
	t, b, err := k.Receive()
	if err != nil {
		return nil, k.broken(err)
	}
	return parseAnswer(t, b)
}

func parseAnswer(t proto.Type, b []byte) (*proto.Answer, error) {
	switch t {
	case proto.TypeAnswer:
		a := &proto.Answer{}
		return a, proto.Decode(b, a)
	case proto.TypeFailure:
		f := &proto.Failure{}
		if err := proto.Decode(b, f); err != nil {
			return nil, err
		}
		return nil, f
	}
	return nil, fmt.Errorf("%w: a frame of type %d in place of an answer", proto.ErrProtocol, t)
}

// ErrBroken means that the connection to the agent ended too early: the guest has stopped, or
// the agent.
var ErrBroken = errors.New("the connection to the guest's agent broke")

// broken says why a connection failed: that the context is over, or that it broke.
func (k *call) broken(err error) error {
	if k.ctx.Err() != nil {
		return context.Cause(k.ctx)
	}
	if errors.Is(err, proto.ErrProtocol) {
		return err
	}
	if errors.Is(err, io.EOF) {
		return ErrBroken
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// release frees the connection from its context. It is over if that has ended.
func (k *call) release() error {
	if !k.stop() {
		return context.Cause(k.ctx)
	}
	k.ctx = context.WithoutCancel(k.ctx) // what breaks from now on is not of its doing
	return nil
}

// ask makes a request that is over with its answer.
func (c *Client) ask(ctx context.Context, r *proto.Request) (*proto.Answer, error) {
	k, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	defer k.stop()
	return k.request(r)
}

// Ping asks whether the agent is there, and what it has to say about the guest.
func (c *Client) Ping(ctx context.Context) (*proto.Answer, error) {
	return c.ask(ctx, &proto.Request{Op: proto.OpPing})
}

// SetTime sets the guest's clock.
func (c *Client) SetTime(ctx context.Context, t time.Time) error {
	_, err := c.ask(ctx, &proto.Request{Op: proto.OpTime, Time: &proto.Time{UnixNano: t.UnixNano()}})
	return err
}

// Shutdown has the guest end, and come back if reboot is set.
func (c *Client) Shutdown(ctx context.Context, reboot bool) error {
	_, err := c.ask(ctx, &proto.Request{Op: proto.OpShutdown, Shutdown: &proto.Shutdown{Reboot: reboot}})
	return err
}
