package host

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/polyvisor/polyvisor/internal/agent/proto"
)

// Put writes what r has to a file of the guest, which is complete under its name or
// not changed.
func (c *Client) Put(ctx context.Context, path string, mode uint32, r io.Reader) error {
	k, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer k.Close()
	defer k.stop()
	if _, err := k.request(&proto.Request{Op: proto.OpPut, Put: &proto.Put{Path: []byte(path), Mode: mode}}); err != nil {
		return err
	}
	out := k.Outbox(proto.Stdin, nil)
	last := k.last()
	_, err = out.ReadFrom(r)
	var rerr *proto.ReadError
	if errors.As(err, &rerr) {
		return rerr.Err // without an end there is no file
	}
	if err == nil {
		err = out.Close()
	}
	if end := <-last; end != nil || err == nil {
		return end
	}
	return k.broken(err)
}

// Get writes the content of a file of the guest to w, and gives its permissions.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) (mode uint32, err error) {
	k, err := c.open(ctx)
	if err != nil {
		return 0, err
	}
	defer k.Close()
	defer k.stop()
	a, err := k.request(&proto.Request{Op: proto.OpGet, Get: &proto.Get{Path: []byte(path)}})
	if err != nil {
		return 0, err
	}
	in := k.Inbox(proto.Stdout)
	last := k.last()
	_, err = in.WriteTo(w)
	var werr *proto.WriteError
	if errors.As(err, &werr) {
		return 0, werr.Err
	}
	if end := <-last; end != nil {
		return 0, end
	}
	if err != nil {
		return 0, k.broken(err)
	}
	return a.Mode & 0o777, nil
}

// last reads to the second answer of a request with a stream.
func (k *call) last() <-chan error {
	result := make(chan error, 1)
	go func() {
		var told bool
		var end error
		err := k.Serve(func(t proto.Type, b []byte) error {
			if told {
				return fmt.Errorf("%w: a second end", proto.ErrProtocol)
			}
			told = true
			_, end = parseAnswer(t, b)
			return errEnd
		})
		switch {
		case told && errors.Is(err, errEnd):
			result <- end
		case err == nil:
			result <- k.broken(io.EOF)
		default:
			result <- k.broken(err)
		}
	}()
	return result
}

// errEnd ends reading after the last answer.
var errEnd = errors.New("that was all")
